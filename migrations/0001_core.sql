-- Chats and everything in them, quotas, policy snapshots, instances (data.md §2). Needs no extension
-- and nothing newer than PostgreSQL 15.
--
-- A child carries its chat's tenant and is bound to both by one key, so it can never belong to another
-- tenant than its chat. Composite keys put chat_id first: besides being the target of foreign keys,
-- that order lets deleting a chat find its rows, the soft-deleted ones included.

create table chats (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  model varchar(1024) not null,
  title varchar(255) check (title <> ''),
  is_temporary boolean not null default false,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint chats_tenant_key unique (id, tenant_id),
  constraint chats_temporary_expires_check check (is_temporary = (expires_at is not null))
);

-- The chat list and its cursor.
create index chats_list_idx on chats (tenant_id, user_id, updated_at desc, id desc)
  where deleted_at is null;
-- Sweep of temporary chats.
create index chats_expiry_idx on chats (expires_at)
  where expires_at is not null and deleted_at is null;
-- Hard purge.
create index chats_deleted_idx on chats (deleted_at)
  where deleted_at is not null;

create table messages (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  -- Null rows are not listed.
  request_id uuid,
  role varchar(16) not null check (role in ('user', 'assistant', 'system')),
  content text not null default '',
  content_type varchar(32) not null default 'text'
    check (content_type in ('text', 'system', 'tool_call', 'tool_result')),
  token_estimate int not null default 0 check (token_estimate >= 0),
  provider_response_id varchar(128),
  request_kind varchar(16) check (request_kind in ('chat', 'summary', 'doc_summary')),
  features_used jsonb not null default '[]',
  citations jsonb,
  -- 0 = unknown.
  input_tokens bigint not null default 0 check (input_tokens >= 0),
  output_tokens bigint not null default 0 check (output_tokens >= 0),
  cache_read_input_tokens bigint not null default 0 check (cache_read_input_tokens >= 0),
  cache_write_input_tokens bigint not null default 0 check (cache_write_input_tokens >= 0),
  reasoning_tokens bigint not null default 0 check (reasoning_tokens >= 0),
  model varchar(1024),
  is_compressed boolean not null default false,
  created_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint messages_chat_key unique (chat_id, id),
  constraint messages_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade
);

-- One user and one assistant message per turn.
create unique index messages_turn_role_key on messages (chat_id, request_id, role)
  where request_id is not null and deleted_at is null;
-- Listing, context tail, snapshot boundary, summary range, latest message, counts.
create index messages_order_idx on messages (chat_id, created_at, id)
  where deleted_at is null;

create table chat_turns (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  request_id uuid not null,
  requester_type varchar(16) not null check (requester_type in ('user', 'system')),
  requester_user_id uuid,
  state varchar(16) not null check (state in ('running', 'completed', 'failed', 'cancelled')),
  provider_name varchar(128),
  provider_response_id varchar(128),
  assistant_message_id uuid,
  error_code varchar(64),
  error_detail text,
  -- The reserve: written once by the preflight transaction, the only inputs of settlement.
  reserve_tokens bigint check (reserve_tokens >= 0),
  reserved_credits_micro bigint check (reserved_credits_micro >= 0),
  policy_version_applied bigint,
  max_output_tokens_applied int check (max_output_tokens_applied >= 0),
  minimal_generation_floor_applied int check (minimal_generation_floor_applied >= 0),
  effective_model varchar(1024),
  effective_tier varchar(16) check (effective_tier in ('standard', 'premium')),
  input_multiplier_micro_applied bigint check (input_multiplier_micro_applied >= 0),
  output_multiplier_micro_applied bigint check (output_multiplier_micro_applied >= 0),
  downgrade_reason varchar(32),
  web_search_enabled boolean not null default false,
  request_fingerprint bytea not null check (octet_length(request_fingerprint) = 32),
  web_search_completed_count int not null default 0 check (web_search_completed_count >= 0),
  code_interpreter_completed_count int not null default 0 check (code_interpreter_completed_count >= 0),
  file_search_completed_count int not null default 0 check (file_search_completed_count >= 0),
  owner_instance_id uuid,
  cancel_requested_at timestamptz,
  cancel_reason varchar(32),
  on_disconnect varchar(16) not null default 'cancel' check (on_disconnect in ('cancel', 'continue')),
  replaced_by_request_id uuid,
  -- Quota periods derive from it.
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_progress_at timestamptz,
  completed_at timestamptz,
  deleted_at timestamptz,
  -- Deleted rows included: a request id is never used twice in a chat.
  constraint chat_turns_request_key unique (chat_id, request_id),
  constraint chat_turns_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade,
  constraint chat_turns_answer_fkey foreign key (assistant_message_id, chat_id)
    references messages (id, chat_id) on delete set null (assistant_message_id),
  constraint chat_turns_completed_at_check check ((state = 'running') = (completed_at is null)),
  constraint chat_turns_progress_check check (state <> 'running' or last_progress_at is not null),
  constraint chat_turns_reserve_check check (
    num_nulls(
      reserve_tokens, reserved_credits_micro, policy_version_applied, max_output_tokens_applied,
      minimal_generation_floor_applied, effective_model, effective_tier,
      input_multiplier_micro_applied, output_multiplier_micro_applied
    ) in (0, 9)
  )
);

-- One running turn per chat.
create unique index chat_turns_running_key on chat_turns (chat_id)
  where state = 'running' and deleted_at is null;
-- The latest turn.
create index chat_turns_latest_idx on chat_turns (chat_id, started_at desc, id desc)
  where deleted_at is null;
-- Orphan scan.
create index chat_turns_progress_idx on chat_turns (last_progress_at)
  where state = 'running' and deleted_at is null;
-- Scan for turns of dead instances.
create index chat_turns_owner_idx on chat_turns (owner_instance_id)
  where state = 'running';

create function refuse_change() returns trigger
language plpgsql
as $$
begin
  raise exception 'immutable columns of % must not change', tg_table_name
    using errcode = 'check_violation', table = tg_table_name, constraint = tg_name;
end
$$;

-- These triggers fire only where a statement names the column, and the function runs only to fail.
create trigger chats_owner_immutable
  before update of tenant_id, user_id, model on chats
  for each row
  when ((old.tenant_id, old.user_id, old.model) is distinct from (new.tenant_id, new.user_id, new.model))
  execute function refuse_change();

create trigger chat_turns_request_immutable
  before update of request_fingerprint on chat_turns
  for each row
  when (old.request_fingerprint is distinct from new.request_fingerprint)
  execute function refuse_change();

create trigger chat_turns_reserve_immutable
  before update of
    reserve_tokens, reserved_credits_micro, policy_version_applied, max_output_tokens_applied,
    minimal_generation_floor_applied, effective_model, effective_tier,
    input_multiplier_micro_applied, output_multiplier_micro_applied
  on chat_turns
  for each row
  when (
    old.reserve_tokens is not null
    and (
      old.reserve_tokens, old.reserved_credits_micro, old.policy_version_applied,
      old.max_output_tokens_applied, old.minimal_generation_floor_applied, old.effective_model,
      old.effective_tier, old.input_multiplier_micro_applied, old.output_multiplier_micro_applied
    ) is distinct from (
      new.reserve_tokens, new.reserved_credits_micro, new.policy_version_applied,
      new.max_output_tokens_applied, new.minimal_generation_floor_applied, new.effective_model,
      new.effective_tier, new.input_multiplier_micro_applied, new.output_multiplier_micro_applied
    )
  )
  execute function refuse_change();

-- A completed turn has its answer at commit; inside the transaction the turn ends before the message
-- exists. An answer that is gone because its message was purged is no offence.
create function check_completed_turn() returns trigger
language plpgsql
as $$
begin
  if tg_op = 'UPDATE'
    and old.assistant_message_id is not null
    and not exists (select from messages m where m.id = old.assistant_message_id)
  then
    return null;
  end if;
  if exists (
    select
    from chat_turns t
    where t.id = new.id
      and t.state = 'completed'
      and t.assistant_message_id is null
  ) then
    raise exception 'completed turn % has no assistant message', new.id
      using errcode = 'check_violation', table = tg_table_name, constraint = tg_name;
  end if;
  return null;
end
$$;

create constraint trigger chat_turns_answer_check
  after insert or update of state, assistant_message_id on chat_turns
  deferrable initially deferred
  for each row
  when (new.state = 'completed' and new.assistant_message_id is null)
  execute function check_completed_turn();

create table attachments (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  uploaded_by_user_id uuid not null,
  filename varchar(255) not null,
  content_type varchar(128) not null,
  -- A hint until the upload ended, then exact.
  size_bytes bigint not null check (size_bytes >= 0),
  storage_backend varchar(32) not null,
  provider_id varchar(128) not null,
  provider_file_id varchar(128),
  status varchar(16) not null check (status in ('pending', 'uploaded', 'ready', 'failed')),
  anthropic_file_id varchar(128),
  anthropic_status varchar(16)
    check (anthropic_status in ('not_attempted', 'pending', 'uploaded', 'failed')),
  error_code varchar(64),
  attachment_kind varchar(16) not null check (attachment_kind in ('document', 'image')),
  for_file_search boolean not null default false,
  for_code_interpreter boolean not null default false,
  doc_summary text,
  summary_model varchar(1024),
  summary_updated_at timestamptz,
  img_thumbnail bytea,
  img_thumbnail_width int,
  img_thumbnail_height int,
  cleanup_status varchar(16) check (cleanup_status in ('pending', 'done', 'failed')),
  cleanup_attempts int not null default 0 check (cleanup_attempts >= 0),
  last_cleanup_error text,
  cleanup_updated_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint attachments_chat_key unique (chat_id, id),
  constraint attachments_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade,
  constraint attachments_ready_check check (status <> 'ready' or provider_file_id is not null),
  constraint attachments_failed_check check ((status = 'failed') = (error_code is not null)),
  constraint attachments_thumbnail_check check (
    num_nulls(img_thumbnail, img_thumbnail_width, img_thumbnail_height) in (0, 3)
    and (img_thumbnail is null or attachment_kind = 'image')
  ),
  constraint attachments_doc_summary_check check (doc_summary is null or attachment_kind = 'document')
);

-- Thumbnails are compressed already: keep them out of line, do not try again.
alter table attachments alter column img_thumbnail set storage external;

-- Limits, ready documents, code-interpreter files.
create index attachments_live_idx on attachments (tenant_id, chat_id)
  where deleted_at is null;
-- Citation mapping, reconciliation.
create index attachments_provider_file_idx on attachments (chat_id, provider_file_id)
  where provider_file_id is not null;
-- Chat cleanup. No condition on deleted_at: singly deleted files must be found.
create index attachments_chat_cleanup_idx on attachments (chat_id)
  where cleanup_status = 'pending';
-- Backlog gauge, reconciler.
create index attachments_cleanup_idx on attachments (cleanup_status, cleanup_updated_at)
  where cleanup_status in ('pending', 'failed');
-- Stale uploads.
create index attachments_stale_idx on attachments (updated_at)
  where status in ('pending', 'uploaded') and deleted_at is null;

create trigger attachments_purpose_immutable
  before update of for_file_search, for_code_interpreter on attachments
  for each row
  when (
    (old.for_file_search, old.for_code_interpreter)
    is distinct from (new.for_file_search, new.for_code_interpreter)
  )
  execute function refuse_change();

-- Insert-only.
create table message_attachments (
  tenant_id uuid not null,
  chat_id uuid not null,
  message_id uuid not null,
  attachment_id uuid not null,
  -- The order as sent.
  position smallint not null check (position >= 0),
  created_at timestamptz not null default now(),
  primary key (chat_id, message_id, attachment_id),
  constraint message_attachments_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade,
  constraint message_attachments_message_fkey foreign key (message_id, chat_id)
    references messages (id, chat_id) on delete cascade,
  constraint message_attachments_attachment_fkey foreign key (attachment_id, chat_id)
    references attachments (id, chat_id) on delete cascade
);

create index message_attachments_chat_idx on message_attachments (tenant_id, chat_id);
-- Delete guard.
create index message_attachments_attachment_idx on message_attachments (attachment_id, chat_id);

create table thread_summaries (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  summary_text text not null,
  -- The frontier. No foreign key: the message may be purged or replaced.
  summarized_up_to_created_at timestamptz not null,
  summarized_up_to_message_id uuid not null,
  token_estimate int not null default 0 check (token_estimate >= 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Decides which of two first summaries wins.
  constraint thread_summaries_chat_key unique (chat_id),
  constraint thread_summaries_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade
);

-- A row whose chat is deleted is outstanding cleanup; deleting the row completes it.
create table chat_vector_stores (
  id uuid primary key,
  tenant_id uuid not null,
  chat_id uuid not null,
  -- Null while being created.
  vector_store_id varchar(128),
  provider varchar(128) not null,
  provider_id varchar(128) not null,
  claimed_at timestamptz not null default now(),
  cleanup_attempts int not null default 0 check (cleanup_attempts >= 0),
  last_cleanup_error text,
  file_count int not null default 0 check (file_count >= 0),
  created_at timestamptz not null default now(),
  constraint chat_vector_stores_chat_key unique (tenant_id, chat_id),
  constraint chat_vector_stores_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade
);

-- One provider store never serves two chats.
create unique index chat_vector_stores_store_key on chat_vector_stores (provider_id, vector_store_id)
  where vector_store_id is not null;

-- No reference to a chat: deleting one never refunds (quota.md §5.3).
create table quota_usage (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  user_id uuid not null,
  period_type varchar(16) not null check (period_type in ('daily', 'monthly')),
  period_start date not null,
  bucket varchar(32) not null check (bucket in ('total', 'tier:premium')),
  spent_credits_micro bigint not null default 0 check (spent_credits_micro >= 0),
  reserved_credits_micro bigint not null default 0 check (reserved_credits_micro >= 0),
  calls int not null default 0 check (calls >= 0),
  input_tokens bigint not null default 0 check (input_tokens >= 0),
  output_tokens bigint not null default 0 check (output_tokens >= 0),
  file_search_calls int not null default 0 check (file_search_calls >= 0),
  web_search_calls int not null default 0 check (web_search_calls >= 0),
  code_interpreter_calls int not null default 0 check (code_interpreter_calls >= 0),
  rag_retrieval_calls int not null default 0 check (rag_retrieval_calls >= 0),
  image_inputs int not null default 0 check (image_inputs >= 0),
  image_upload_bytes bigint not null default 0 check (image_upload_bytes >= 0),
  updated_at timestamptz not null default now(),
  constraint quota_usage_period_key unique (tenant_id, user_id, period_type, period_start, bucket)
) with (
  -- Rows are updated by every turn and no index covers a counter: free space keeps the updates HOT.
  fillfactor = 80
);

create table message_reactions (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null,
  chat_id uuid not null,
  message_id uuid not null,
  user_id uuid not null,
  reaction varchar(16) not null check (reaction in ('like', 'dislike')),
  -- Refreshed when the reaction changes.
  created_at timestamptz not null default now(),
  constraint message_reactions_user_key unique (message_id, user_id),
  constraint message_reactions_chat_fkey foreign key (chat_id, tenant_id)
    references chats (id, tenant_id) on delete cascade,
  constraint message_reactions_message_fkey foreign key (message_id, chat_id)
    references messages (id, chat_id) on delete cascade
);

create index message_reactions_chat_idx on message_reactions (chat_id);

-- Rows never change; they let a tenant be served through a restart and an outage of the policy service.
create table policy_snapshots (
  tenant_id uuid not null,
  policy_version bigint not null,
  snapshot jsonb not null,
  fetched_at timestamptz not null default now(),
  primary key (tenant_id, policy_version)
);

-- The log a resumed stream is played from (turns.md §16.2).
create table turn_events (
  turn_id uuid not null references chat_turns (id) on delete cascade,
  seq int not null check (seq >= 0),
  event varchar(32) not null,
  data jsonb not null,
  tenant_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (turn_id, seq)
);

-- Liveness of turn owners: every process renews last_seen_at.
create table app_instances (
  id uuid primary key,
  role varchar(16) not null check (role in ('all', 'api', 'worker')),
  version varchar(64) not null,
  started_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now()
) with (
  -- Few rows, updated for ever.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 100
);

create index app_instances_seen_idx on app_instances (last_seen_at);
