-- Search over one's own messages (docs/decisions/0007-search-and-export.md, which has the figures of what
-- was not chosen).
--
-- One index answers for all owners. A posting list of words alone would belong to every tenant, so each
-- message also has keys of its owner, and the index intersects both kinds of list before any row is read.

-- The owner of the message's chat, who never changes. Nobody writes it: the trigger does.
alter table messages add column user_id uuid;

create function set_message_owner() returns trigger
language plpgsql
as $$
begin
  new.user_id := (
    select c.user_id
    from chats c
    where c.id = new.chat_id
      and c.tenant_id = new.tenant_id
  );
  return new;
end
$$;

create trigger messages_owner
  before insert on messages
  for each row
  execute function set_message_owner();

update messages m
set user_id = c.user_id
from chats c
where c.id = m.chat_id
  and c.tenant_id = m.tenant_id;

create trigger messages_owner_immutable
  before update of user_id on messages
  for each row
  when (old.user_id is distinct from new.user_id)
  execute function refuse_change();

-- A stretch of 30 days, counted from 1970.
create function search_period(at timestamptz) returns bigint
language sql immutable strict parallel safe
return floor(extract(epoch from at at time zone 'UTC') / 2592000)::bigint;

-- Period 0 stands for all of them. Two owners may share a key, so a query names the owner as well.
create function search_key(tenant_id uuid, user_id uuid, period bigint) returns bigint
language sql immutable strict parallel safe
return uuid_hash_extended(user_id, uuid_hash_extended(tenant_id, period));

create function search_keys(tenant_id uuid, user_id uuid, at timestamptz) returns bigint[]
language sql immutable parallel safe
return array[search_key(tenant_id, user_id, 0), search_key(tenant_id, user_id, search_period(at))];

-- Words are runs of letters and digits of any script. What separates them is listed, so that it does not
-- depend on the locale of the database, and so that code, paths and addresses are found by their parts.
-- A text counts up to 50,000 characters: far more distinct words do not fit a tsvector, and a message must
-- be storable whatever it says.
create function search_terms(content text) returns tsvector
language sql immutable strict parallel safe
return to_tsvector(
  'pg_catalog.simple',
  regexp_replace(
    left(content, 50000),
    '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u060c\u061b\u061f\u06d4\u0964\u0965\u2000-\u2bff\u3000-\u3004\u3008-\u3020\ufe10-\ufe6f\ufeff-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufff0-\uffff\U0001f000-\U0001faff]+',
    ' ',
    'g'
  )
);

-- Writers append to the pending list; at 256 KiB, some 80 messages, one of them merges it in 40 ms. The default
-- of 4 MiB would stop one for a quarter of a second, and make every search read it.
create index messages_search_idx on messages
  using gin (search_keys(tenant_id, user_id, created_at), search_terms(content))
  with (gin_pending_list_limit = 256)
  where deleted_at is null and request_id is not null;

-- A word in one of 2,500 titles is found in 0.1 ms instead of 30. Marking a chat as active costs twice as much with
-- it: another 40 µs per send.
create index chats_search_idx on chats
  using gin ((array[search_key(tenant_id, user_id, 0)]), search_terms(title))
  with (gin_pending_list_limit = 256)
  where deleted_at is null and title is not null;
