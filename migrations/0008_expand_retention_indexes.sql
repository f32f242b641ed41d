-- no-transaction
-- A build that was cut off is done again.

-- Quota rows past their time are found without reading the rows of 400 days. Nothing that a turn updates
-- is in it, so it costs on the first turn of a user's period only.
drop index concurrently if exists quota_usage_period_idx;
create index concurrently quota_usage_period_idx on quota_usage (period_start);

-- Each message of a chat that is purged looks for the turn it answers. Without this it looks through all
-- turns of the chat: a chat of 20,000 turns could not be purged within the time a statement has.
drop index concurrently if exists chat_turns_answer_idx;
create index concurrently chat_turns_answer_idx on chat_turns (assistant_message_id)
  where assistant_message_id is not null;
