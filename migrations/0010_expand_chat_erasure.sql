-- The end of a deleted chat at its providers: set once, with the receipt in the audit stream.
alter table chats add column erased_at timestamptz;
-- Stores deleted at providers so far; counted here because their rows are gone by then.
alter table chats add column erased_vector_stores int not null default 0;

-- A receipt is about a chat, not about a turn of it.
alter table audit_events alter column turn_id drop not null;
