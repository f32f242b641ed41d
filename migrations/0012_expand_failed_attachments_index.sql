-- no-transaction
-- A build that was cut off is done again.

-- Failed uploads are counted every minute by each worker (ops.md §5): without this, by reading all attachments.
drop index concurrently if exists attachments_failed_idx;
create index concurrently attachments_failed_idx on attachments (chat_id)
  where status = 'failed' and deleted_at is null;
