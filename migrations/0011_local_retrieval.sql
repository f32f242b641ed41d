-- Files of providers that store none: their bytes, and the chunks of their text (docs/decisions/0011-local-retrieval.md).

-- What the port calls a vector store: a name that files are added to.
create table local_stores (
  id uuid primary key,
  tenant_id uuid not null,
  provider_id varchar(128) not null,
  created_at timestamptz not null default now(),
  constraint local_stores_tenant_key unique (id, tenant_id)
);

create index local_stores_list_idx on local_stores (provider_id, tenant_id, created_at, id);

create table local_files (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  attachment_id uuid not null,
  provider_id varchar(128) not null,
  name varchar(255) not null,
  content_type varchar(128) not null,
  -- Null until the last piece has arrived.
  bytes bigint check (bytes >= 0),
  store_id uuid,
  -- Null: not to be searched.
  index_status varchar(16) check (index_status in ('in_progress', 'completed', 'failed')),
  index_failure varchar(32),
  index_attempts int not null default 0 check (index_attempts >= 0),
  -- Whoever holds this token may store chunks, until then.
  index_claim uuid,
  index_claimed_until timestamptz,
  -- The document has more text than is kept.
  truncated boolean not null default false,
  chunks int not null default 0 check (chunks >= 0),
  created_at timestamptz not null default now(),
  constraint local_files_chat_key unique (id, chat_id, tenant_id),
  constraint local_files_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade,
  constraint local_files_attachment_fkey foreign key (chat_id, attachment_id)
    references attachments (chat_id, id) on delete cascade,
  constraint local_files_store_fkey foreign key (store_id, tenant_id)
    references local_stores (id, tenant_id),
  constraint local_files_failure_check check ((index_status = 'failed') = (index_failure is not null)),
  constraint local_files_stored_check check (index_status is null or (bytes is not null and store_id is not null))
);

-- Also for the cascades.
create index local_files_chat_idx on local_files (chat_id, attachment_id);
create index local_files_store_idx on local_files (store_id);
create index local_files_list_idx on local_files (provider_id, tenant_id, created_at, id);
create index local_files_waiting_idx on local_files (created_at) where index_status = 'in_progress';

create table local_file_pieces (
  tenant_id uuid not null,
  chat_id uuid not null,
  file_id uuid not null,
  no int not null check (no >= 0),
  bytes bytea not null check (octet_length(bytes) between 1 and 262144),
  primary key (file_id, no),
  constraint local_file_pieces_file_fkey foreign key (file_id, chat_id, tenant_id)
    references local_files (id, chat_id, tenant_id) on delete cascade
);

-- Most documents are packed already.
alter table local_file_pieces alter column bytes set storage external;

create table local_chunks (
  tenant_id uuid not null,
  chat_id uuid not null,
  file_id uuid not null,
  no int not null check (no >= 0),
  content text not null,
  -- UTF-16 units at the beginning that repeat the end of the chunk before.
  overlap int not null check (overlap >= 0),
  place_kind varchar(16) not null check (place_kind in ('page', 'slide', 'sheet', 'section', 'line')),
  place_from int not null,
  place_to int not null,
  place_name varchar(200),
  words tsvector not null,
  primary key (file_id, no),
  constraint local_chunks_file_fkey foreign key (file_id, chat_id, tenant_id)
    references local_files (id, chat_id, tenant_id) on delete cascade
);

-- Words are read of every candidate and the text of a few: the words stay in the row.
alter table local_chunks alter column words set storage main;

-- Lists of the words of all tenants, intersected with those of the chat, as in migration 0006.
create index local_chunks_words_idx on local_chunks
  using gin ((array[search_key(tenant_id, chat_id, 0)]), words)
  with (gin_pending_list_limit = 256);
