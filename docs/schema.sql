-- The schema all migrations lead to, written by `UPDATE_SNAPSHOTS=1 npx vitest run packages/server/test/db/schema.test.ts`.
-- For reading and for the test that compares it; the database is made by migrations/ alone.

create table app_instances (
  id uuid not null,
  role character varying(16) not null,
  version character varying(64) not null,
  started_at timestamp with time zone not null default now(),
  last_seen_at timestamp with time zone not null default now(),
  constraint app_instances_pkey PRIMARY KEY (id),
  constraint app_instances_role_check CHECK (role::text = ANY (ARRAY['all'::character varying, 'api'::character varying, 'worker'::character varying]::text[]))
) with (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=100);

create table attachments (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  uploaded_by_user_id uuid not null,
  filename character varying(255) not null,
  content_type character varying(128) not null,
  size_bytes bigint not null,
  storage_backend character varying(32) not null,
  provider_id character varying(128) not null,
  provider_file_id character varying(128),
  status character varying(16) not null,
  anthropic_file_id character varying(128),
  anthropic_status character varying(16),
  error_code character varying(64),
  attachment_kind character varying(16) not null,
  for_file_search boolean not null default false,
  for_code_interpreter boolean not null default false,
  doc_summary text,
  summary_model character varying(1024),
  summary_updated_at timestamp with time zone,
  img_thumbnail bytea storage external,
  img_thumbnail_width integer,
  img_thumbnail_height integer,
  cleanup_status character varying(16),
  cleanup_attempts integer not null default 0,
  last_cleanup_error text,
  cleanup_updated_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  deleted_at timestamp with time zone,
  constraint attachments_pkey PRIMARY KEY (id),
  constraint attachments_chat_key UNIQUE (chat_id, id),
  constraint attachments_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint attachments_anthropic_status_check CHECK (anthropic_status::text = ANY (ARRAY['not_attempted'::character varying, 'pending'::character varying, 'uploaded'::character varying, 'failed'::character varying]::text[])),
  constraint attachments_attachment_kind_check CHECK (attachment_kind::text = ANY (ARRAY['document'::character varying, 'image'::character varying]::text[])),
  constraint attachments_cleanup_attempts_check CHECK (cleanup_attempts >= 0),
  constraint attachments_cleanup_status_check CHECK (cleanup_status::text = ANY (ARRAY['pending'::character varying, 'done'::character varying, 'failed'::character varying]::text[])),
  constraint attachments_doc_summary_check CHECK (doc_summary IS NULL OR attachment_kind::text = 'document'::text),
  constraint attachments_failed_check CHECK ((status::text = 'failed'::text) = (error_code IS NOT NULL)),
  constraint attachments_ready_check CHECK (status::text <> 'ready'::text OR provider_file_id IS NOT NULL),
  constraint attachments_size_bytes_check CHECK (size_bytes >= 0),
  constraint attachments_status_check CHECK (status::text = ANY (ARRAY['pending'::character varying, 'uploaded'::character varying, 'ready'::character varying, 'failed'::character varying]::text[])),
  constraint attachments_thumbnail_check CHECK ((num_nulls(img_thumbnail, img_thumbnail_width, img_thumbnail_height) = ANY (ARRAY[0, 3])) AND (img_thumbnail IS NULL OR attachment_kind::text = 'image'::text))
);

create table audit_events (
  idempotency_key text not null,
  message_id uuid not null,
  tenant_id uuid not null,
  user_id uuid,
  chat_id uuid not null,
  turn_id uuid,
  occurred_at timestamp with time zone not null,
  event_type text not null,
  event jsonb not null,
  recorded_at timestamp with time zone not null default now(),
  constraint audit_events_pkey PRIMARY KEY (idempotency_key)
);

create table chat_turns (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  request_id uuid not null,
  requester_type character varying(16) not null,
  requester_user_id uuid,
  state character varying(16) not null,
  provider_name character varying(128),
  provider_response_id character varying(128),
  assistant_message_id uuid,
  error_code character varying(64),
  error_detail text,
  reserve_tokens bigint,
  reserved_credits_micro bigint,
  policy_version_applied bigint,
  max_output_tokens_applied integer,
  minimal_generation_floor_applied integer,
  effective_model character varying(1024),
  effective_tier character varying(16),
  input_multiplier_micro_applied bigint,
  output_multiplier_micro_applied bigint,
  downgrade_reason character varying(32),
  web_search_enabled boolean not null default false,
  request_fingerprint bytea not null,
  web_search_completed_count integer not null default 0,
  code_interpreter_completed_count integer not null default 0,
  file_search_completed_count integer not null default 0,
  owner_instance_id uuid,
  cancel_requested_at timestamp with time zone,
  cancel_reason character varying(32),
  on_disconnect character varying(16) not null default 'cancel'::character varying,
  replaced_by_request_id uuid,
  started_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  last_progress_at timestamp with time zone,
  completed_at timestamp with time zone,
  deleted_at timestamp with time zone,
  constraint chat_turns_pkey PRIMARY KEY (id),
  constraint chat_turns_request_key UNIQUE (chat_id, request_id),
  constraint chat_turns_answer_fkey FOREIGN KEY (assistant_message_id, chat_id) REFERENCES messages(id, chat_id) ON DELETE SET NULL (assistant_message_id),
  constraint chat_turns_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint chat_turns_code_interpreter_completed_count_check CHECK (code_interpreter_completed_count >= 0),
  constraint chat_turns_completed_at_check CHECK ((state::text = 'running'::text) = (completed_at IS NULL)),
  constraint chat_turns_effective_tier_check CHECK (effective_tier::text = ANY (ARRAY['standard'::character varying, 'premium'::character varying]::text[])),
  constraint chat_turns_file_search_completed_count_check CHECK (file_search_completed_count >= 0),
  constraint chat_turns_input_multiplier_micro_applied_check CHECK (input_multiplier_micro_applied >= 0),
  constraint chat_turns_max_output_tokens_applied_check CHECK (max_output_tokens_applied >= 0),
  constraint chat_turns_minimal_generation_floor_applied_check CHECK (minimal_generation_floor_applied >= 0),
  constraint chat_turns_on_disconnect_check CHECK (on_disconnect::text = ANY (ARRAY['cancel'::character varying, 'continue'::character varying]::text[])),
  constraint chat_turns_output_multiplier_micro_applied_check CHECK (output_multiplier_micro_applied >= 0),
  constraint chat_turns_progress_check CHECK (state::text <> 'running'::text OR last_progress_at IS NOT NULL),
  constraint chat_turns_request_fingerprint_check CHECK (octet_length(request_fingerprint) = 32),
  constraint chat_turns_requester_type_check CHECK (requester_type::text = ANY (ARRAY['user'::character varying, 'system'::character varying]::text[])),
  constraint chat_turns_reserve_check CHECK (num_nulls(reserve_tokens, reserved_credits_micro, policy_version_applied, max_output_tokens_applied, minimal_generation_floor_applied, effective_model, effective_tier, input_multiplier_micro_applied, output_multiplier_micro_applied) = ANY (ARRAY[0, 9])),
  constraint chat_turns_reserve_tokens_check CHECK (reserve_tokens >= 0),
  constraint chat_turns_reserved_credits_micro_check CHECK (reserved_credits_micro >= 0),
  constraint chat_turns_state_check CHECK (state::text = ANY (ARRAY['running'::character varying, 'completed'::character varying, 'failed'::character varying, 'cancelled'::character varying]::text[])),
  constraint chat_turns_web_search_completed_count_check CHECK (web_search_completed_count >= 0)
);

create table chat_vector_stores (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  vector_store_id character varying(128),
  provider character varying(128) not null,
  provider_id character varying(128) not null,
  claimed_at timestamp with time zone not null default now(),
  cleanup_attempts integer not null default 0,
  last_cleanup_error text,
  file_count integer not null default 0,
  created_at timestamp with time zone not null default now(),
  constraint chat_vector_stores_pkey PRIMARY KEY (id),
  constraint chat_vector_stores_chat_key UNIQUE (tenant_id, chat_id),
  constraint chat_vector_stores_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint chat_vector_stores_cleanup_attempts_check CHECK (cleanup_attempts >= 0),
  constraint chat_vector_stores_file_count_check CHECK (file_count >= 0)
);

create table chats (
  id uuid not null,
  tenant_id uuid not null,
  user_id uuid not null,
  model character varying(1024) not null,
  title character varying(255),
  is_temporary boolean not null default false,
  expires_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  deleted_at timestamp with time zone,
  erased_at timestamp with time zone,
  erased_vector_stores integer not null default 0,
  constraint chats_pkey PRIMARY KEY (id),
  constraint chats_tenant_key UNIQUE (id, tenant_id),
  constraint chats_temporary_expires_check CHECK (is_temporary = (expires_at IS NOT NULL)),
  constraint chats_title_check CHECK (title::text <> ''::text)
);

create table local_chunks (
  tenant_id uuid not null,
  chat_id uuid not null,
  file_id uuid not null,
  no integer not null,
  content text not null,
  overlap integer not null,
  place_kind character varying(16) not null,
  place_from integer not null,
  place_to integer not null,
  place_name character varying(200),
  words tsvector storage main not null,
  constraint local_chunks_pkey PRIMARY KEY (file_id, no),
  constraint local_chunks_file_fkey FOREIGN KEY (file_id, chat_id, tenant_id) REFERENCES local_files(id, chat_id, tenant_id) ON DELETE CASCADE,
  constraint local_chunks_no_check CHECK (no >= 0),
  constraint local_chunks_overlap_check CHECK (overlap >= 0),
  constraint local_chunks_place_kind_check CHECK (place_kind::text = ANY (ARRAY['page'::character varying, 'slide'::character varying, 'sheet'::character varying, 'section'::character varying, 'line'::character varying]::text[]))
);

create table local_file_pieces (
  tenant_id uuid not null,
  chat_id uuid not null,
  file_id uuid not null,
  no integer not null,
  bytes bytea storage external not null,
  constraint local_file_pieces_pkey PRIMARY KEY (file_id, no),
  constraint local_file_pieces_file_fkey FOREIGN KEY (file_id, chat_id, tenant_id) REFERENCES local_files(id, chat_id, tenant_id) ON DELETE CASCADE,
  constraint local_file_pieces_bytes_check CHECK (octet_length(bytes) >= 1 AND octet_length(bytes) <= 262144),
  constraint local_file_pieces_no_check CHECK (no >= 0)
);

create table local_files (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  attachment_id uuid not null,
  provider_id character varying(128) not null,
  name character varying(255) not null,
  content_type character varying(128) not null,
  bytes bigint,
  store_id uuid,
  index_status character varying(16),
  index_failure character varying(32),
  index_attempts integer not null default 0,
  index_claim uuid,
  index_claimed_until timestamp with time zone,
  truncated boolean not null default false,
  chunks integer not null default 0,
  created_at timestamp with time zone not null default now(),
  constraint local_files_pkey PRIMARY KEY (id),
  constraint local_files_chat_key UNIQUE (id, chat_id, tenant_id),
  constraint local_files_attachment_fkey FOREIGN KEY (chat_id, attachment_id) REFERENCES attachments(chat_id, id) ON DELETE CASCADE,
  constraint local_files_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint local_files_store_fkey FOREIGN KEY (store_id, tenant_id) REFERENCES local_stores(id, tenant_id),
  constraint local_files_bytes_check CHECK (bytes >= 0),
  constraint local_files_chunks_check CHECK (chunks >= 0),
  constraint local_files_failure_check CHECK ((index_status::text = 'failed'::text) = (index_failure IS NOT NULL)),
  constraint local_files_index_attempts_check CHECK (index_attempts >= 0),
  constraint local_files_index_status_check CHECK (index_status::text = ANY (ARRAY['in_progress'::character varying, 'completed'::character varying, 'failed'::character varying]::text[])),
  constraint local_files_stored_check CHECK (index_status IS NULL OR bytes IS NOT NULL AND store_id IS NOT NULL)
);

create table local_stores (
  id uuid not null,
  tenant_id uuid not null,
  provider_id character varying(128) not null,
  created_at timestamp with time zone not null default now(),
  constraint local_stores_pkey PRIMARY KEY (id),
  constraint local_stores_tenant_key UNIQUE (id, tenant_id)
);

create table message_attachments (
  tenant_id uuid not null,
  chat_id uuid not null,
  message_id uuid not null,
  attachment_id uuid not null,
  "position" smallint not null,
  created_at timestamp with time zone not null default now(),
  constraint message_attachments_pkey PRIMARY KEY (chat_id, message_id, attachment_id),
  constraint message_attachments_attachment_fkey FOREIGN KEY (attachment_id, chat_id) REFERENCES attachments(id, chat_id) ON DELETE CASCADE,
  constraint message_attachments_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint message_attachments_message_fkey FOREIGN KEY (message_id, chat_id) REFERENCES messages(id, chat_id) ON DELETE CASCADE,
  constraint message_attachments_position_check CHECK ("position" >= 0)
);

create table message_reactions (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  chat_id uuid not null,
  message_id uuid not null,
  user_id uuid not null,
  reaction character varying(16) not null,
  created_at timestamp with time zone not null default now(),
  constraint message_reactions_pkey PRIMARY KEY (id),
  constraint message_reactions_user_key UNIQUE (message_id, user_id),
  constraint message_reactions_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint message_reactions_message_fkey FOREIGN KEY (message_id, chat_id) REFERENCES messages(id, chat_id) ON DELETE CASCADE,
  constraint message_reactions_reaction_check CHECK (reaction::text = ANY (ARRAY['like'::character varying, 'dislike'::character varying]::text[]))
);

create table messages (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  request_id uuid,
  role character varying(16) not null,
  content text not null default ''::text,
  content_type character varying(32) not null default 'text'::character varying,
  token_estimate integer not null default 0,
  provider_response_id character varying(128),
  request_kind character varying(16),
  features_used jsonb not null default '[]'::jsonb,
  citations jsonb,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  cache_read_input_tokens bigint not null default 0,
  cache_write_input_tokens bigint not null default 0,
  reasoning_tokens bigint not null default 0,
  model character varying(1024),
  is_compressed boolean not null default false,
  created_at timestamp with time zone not null default now(),
  deleted_at timestamp with time zone,
  user_id uuid,
  constraint messages_pkey PRIMARY KEY (id),
  constraint messages_chat_key UNIQUE (chat_id, id),
  constraint messages_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint messages_cache_read_input_tokens_check CHECK (cache_read_input_tokens >= 0),
  constraint messages_cache_write_input_tokens_check CHECK (cache_write_input_tokens >= 0),
  constraint messages_content_type_check CHECK (content_type::text = ANY (ARRAY['text'::character varying, 'system'::character varying, 'tool_call'::character varying, 'tool_result'::character varying]::text[])),
  constraint messages_input_tokens_check CHECK (input_tokens >= 0),
  constraint messages_output_tokens_check CHECK (output_tokens >= 0),
  constraint messages_reasoning_tokens_check CHECK (reasoning_tokens >= 0),
  constraint messages_request_kind_check CHECK (request_kind::text = ANY (ARRAY['chat'::character varying, 'summary'::character varying, 'doc_summary'::character varying]::text[])),
  constraint messages_role_check CHECK (role::text = ANY (ARRAY['user'::character varying, 'assistant'::character varying, 'system'::character varying]::text[])),
  constraint messages_token_estimate_check CHECK (token_estimate >= 0)
);

create table outbox_dead (
  id bigint not null generated always as identity,
  queue character varying(1024) not null,
  partition_id integer not null,
  message_id uuid not null,
  tenant_id uuid not null,
  order_key uuid not null,
  kind character varying(1024) not null,
  payload text not null,
  trace text,
  created_at timestamp with time zone not null,
  attempts integer not null,
  first_failed_at timestamp with time zone not null default now(),
  last_failed_at timestamp with time zone not null default now(),
  error text not null,
  fingerprint text not null,
  status character varying(16) not null default 'pending'::character varying,
  deadline timestamp with time zone,
  replay_count integer not null default 0,
  completed_at timestamp with time zone,
  completed_by character varying(128),
  rejected_by character varying(128),
  reject_reason text,
  constraint outbox_dead_pkey PRIMARY KEY (id),
  constraint outbox_dead_check CHECK ((status::text = 'replaying'::text) = (deadline IS NOT NULL)),
  constraint outbox_dead_check1 CHECK ((status::text = ANY (ARRAY['resolved'::character varying, 'discarded'::character varying]::text[])) = (completed_at IS NOT NULL)),
  constraint outbox_dead_replay_count_check CHECK (replay_count >= 0),
  constraint outbox_dead_status_check CHECK (status::text = ANY (ARRAY['pending'::character varying, 'replaying'::character varying, 'resolved'::character varying, 'discarded'::character varying]::text[]))
);

create table outbox_message (
  partition_id integer not null,
  id bigint not null generated always as identity,
  message_id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  order_key uuid not null,
  kind character varying(1024) not null,
  payload text not null,
  trace text,
  created_at timestamp with time zone not null default now(),
  constraint outbox_message_pkey PRIMARY KEY (partition_id, id),
  constraint outbox_message_payload_check CHECK (octet_length(payload) <= 65536)
) with (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=2000, autovacuum_vacuum_insert_scale_factor=0, autovacuum_vacuum_insert_threshold=50000, autovacuum_vacuum_cost_delay=0, autovacuum_analyze_scale_factor=0, autovacuum_analyze_threshold=50000);

create table outbox_parked (
  partition_id integer not null,
  order_key uuid not null,
  until timestamp with time zone not null,
  attempts integer not null,
  from_id bigint not null default 0,
  since timestamp with time zone default now(),
  error text,
  constraint outbox_parked_pkey PRIMARY KEY (partition_id, order_key),
  constraint outbox_parked_attempts_check CHECK (attempts >= 0)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=200);

create table outbox_partition (
  id integer not null generated always as identity,
  queue character varying(1024) not null,
  no integer not null,
  lease_token uuid,
  lease_until timestamp with time zone,
  locked_by text,
  not_before timestamp with time zone,
  head_id bigint,
  head_attempts integer not null default 0,
  scan_from bigint not null default 0,
  paused boolean not null default false,
  last_served_at timestamp with time zone,
  last_error text,
  read_from bigint not null default 0,
  constraint outbox_partition_pkey PRIMARY KEY (id),
  constraint outbox_partition_queue_no_key UNIQUE (queue, no),
  constraint outbox_partition_head_attempts_check CHECK (head_attempts >= 0),
  constraint outbox_partition_no_check CHECK (no >= 0)
) with (fillfactor=50, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=500, autovacuum_analyze_scale_factor=0, autovacuum_analyze_threshold=5000);

create table policy_snapshots (
  tenant_id uuid not null,
  policy_version bigint not null,
  snapshot jsonb not null,
  fetched_at timestamp with time zone not null default now(),
  constraint policy_snapshots_pkey PRIMARY KEY (tenant_id, policy_version)
);

create table quota_usage (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  user_id uuid not null,
  period_type character varying(16) not null,
  period_start date not null,
  bucket character varying(32) not null,
  spent_credits_micro bigint not null default 0,
  reserved_credits_micro bigint not null default 0,
  calls integer not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  file_search_calls integer not null default 0,
  web_search_calls integer not null default 0,
  code_interpreter_calls integer not null default 0,
  rag_retrieval_calls integer not null default 0,
  image_inputs integer not null default 0,
  image_upload_bytes bigint not null default 0,
  updated_at timestamp with time zone not null default now(),
  constraint quota_usage_pkey PRIMARY KEY (id),
  constraint quota_usage_period_key UNIQUE (tenant_id, user_id, period_type, period_start, bucket),
  constraint quota_usage_bucket_check CHECK (bucket::text = ANY (ARRAY['total'::character varying, 'tier:premium'::character varying]::text[])),
  constraint quota_usage_calls_check CHECK (calls >= 0),
  constraint quota_usage_code_interpreter_calls_check CHECK (code_interpreter_calls >= 0),
  constraint quota_usage_file_search_calls_check CHECK (file_search_calls >= 0),
  constraint quota_usage_image_inputs_check CHECK (image_inputs >= 0),
  constraint quota_usage_image_upload_bytes_check CHECK (image_upload_bytes >= 0),
  constraint quota_usage_input_tokens_check CHECK (input_tokens >= 0),
  constraint quota_usage_output_tokens_check CHECK (output_tokens >= 0),
  constraint quota_usage_period_type_check CHECK (period_type::text = ANY (ARRAY['daily'::character varying, 'monthly'::character varying]::text[])),
  constraint quota_usage_rag_retrieval_calls_check CHECK (rag_retrieval_calls >= 0),
  constraint quota_usage_reserved_credits_micro_check CHECK (reserved_credits_micro >= 0),
  constraint quota_usage_spent_credits_micro_check CHECK (spent_credits_micro >= 0),
  constraint quota_usage_web_search_calls_check CHECK (web_search_calls >= 0)
) with (fillfactor=80);

create table schema_migrations (
  version integer not null,
  name text not null,
  checksum text not null,
  applied_at timestamp with time zone not null default now(),
  duration_ms integer not null,
  constraint schema_migrations_pkey PRIMARY KEY (version)
);

create table thread_summaries (
  id uuid not null,
  tenant_id uuid not null,
  chat_id uuid not null,
  summary_text text not null,
  summarized_up_to_created_at timestamp with time zone not null,
  summarized_up_to_message_id uuid not null,
  token_estimate integer not null default 0,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint thread_summaries_pkey PRIMARY KEY (id),
  constraint thread_summaries_chat_key UNIQUE (chat_id),
  constraint thread_summaries_chat_fkey FOREIGN KEY (chat_id, tenant_id) REFERENCES chats(id, tenant_id) ON DELETE CASCADE,
  constraint thread_summaries_token_estimate_check CHECK (token_estimate >= 0)
);

create table turn_events (
  turn_id uuid not null,
  seq integer not null,
  event character varying(32) not null,
  data jsonb not null,
  tenant_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint turn_events_pkey PRIMARY KEY (turn_id, seq),
  constraint turn_events_turn_id_fkey FOREIGN KEY (turn_id) REFERENCES chat_turns(id) ON DELETE CASCADE,
  constraint turn_events_seq_check CHECK (seq >= 0)
);

create table usage_events (
  idempotency_key text not null,
  message_id uuid not null,
  tenant_id uuid not null,
  user_id uuid,
  chat_id uuid not null,
  turn_id uuid,
  occurred_at timestamp with time zone not null,
  effective_model text not null,
  terminal_state text not null,
  billing_outcome text not null,
  actual_credits_micro bigint not null,
  event jsonb not null,
  recorded_at timestamp with time zone not null default now(),
  constraint usage_events_pkey PRIMARY KEY (idempotency_key)
);

CREATE INDEX app_instances_seen_idx ON app_instances USING btree (last_seen_at);
CREATE INDEX attachments_chat_cleanup_idx ON attachments USING btree (chat_id) WHERE cleanup_status::text = 'pending'::text;
CREATE INDEX attachments_cleanup_idx ON attachments USING btree (cleanup_status, cleanup_updated_at) WHERE cleanup_status::text = ANY (ARRAY['pending'::character varying, 'failed'::character varying]::text[]);
CREATE INDEX attachments_failed_idx ON attachments USING btree (chat_id) WHERE status::text = 'failed'::text AND deleted_at IS NULL;
CREATE INDEX attachments_live_idx ON attachments USING btree (tenant_id, chat_id) WHERE deleted_at IS NULL;
CREATE INDEX attachments_provider_file_idx ON attachments USING btree (chat_id, provider_file_id) WHERE provider_file_id IS NOT NULL;
CREATE INDEX attachments_stale_idx ON attachments USING btree (updated_at) WHERE (status::text = ANY (ARRAY['pending'::character varying, 'uploaded'::character varying]::text[])) AND deleted_at IS NULL;
CREATE INDEX audit_events_tenant_idx ON audit_events USING btree (tenant_id, occurred_at);
CREATE INDEX chat_turns_answer_idx ON chat_turns USING btree (assistant_message_id) WHERE assistant_message_id IS NOT NULL;
CREATE INDEX chat_turns_latest_idx ON chat_turns USING btree (chat_id, started_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX chat_turns_owner_idx ON chat_turns USING btree (owner_instance_id) WHERE state::text = 'running'::text;
CREATE INDEX chat_turns_progress_idx ON chat_turns USING btree (last_progress_at) WHERE state::text = 'running'::text AND deleted_at IS NULL;
CREATE UNIQUE INDEX chat_turns_running_key ON chat_turns USING btree (chat_id) WHERE state::text = 'running'::text AND deleted_at IS NULL;
CREATE UNIQUE INDEX chat_vector_stores_store_key ON chat_vector_stores USING btree (provider_id, vector_store_id) WHERE vector_store_id IS NOT NULL;
CREATE INDEX chats_deleted_idx ON chats USING btree (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX chats_expiry_idx ON chats USING btree (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX chats_list_idx ON chats USING btree (tenant_id, user_id, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX chats_search_idx ON chats USING gin ((ARRAY[search_key(tenant_id, user_id, 0::bigint)]), search_terms(title::text)) WITH (gin_pending_list_limit='256') WHERE deleted_at IS NULL AND title IS NOT NULL;
CREATE INDEX local_chunks_words_idx ON local_chunks USING gin ((ARRAY[search_key(tenant_id, chat_id, 0::bigint)]), words) WITH (gin_pending_list_limit='256');
CREATE INDEX local_files_chat_idx ON local_files USING btree (chat_id, attachment_id);
CREATE INDEX local_files_list_idx ON local_files USING btree (provider_id, tenant_id, created_at, id);
CREATE INDEX local_files_store_idx ON local_files USING btree (store_id);
CREATE INDEX local_files_waiting_idx ON local_files USING btree (created_at) WHERE index_status::text = 'in_progress'::text;
CREATE INDEX local_stores_list_idx ON local_stores USING btree (provider_id, tenant_id, created_at, id);
CREATE INDEX message_attachments_attachment_idx ON message_attachments USING btree (attachment_id, chat_id);
CREATE INDEX message_attachments_chat_idx ON message_attachments USING btree (tenant_id, chat_id);
CREATE INDEX message_reactions_chat_idx ON message_reactions USING btree (chat_id);
CREATE INDEX messages_order_idx ON messages USING btree (chat_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX messages_search_idx ON messages USING gin (search_keys(tenant_id, user_id, created_at), search_terms(content)) WITH (gin_pending_list_limit='256') WHERE deleted_at IS NULL AND request_id IS NOT NULL;
CREATE UNIQUE INDEX messages_turn_role_key ON messages USING btree (chat_id, request_id, role) WHERE request_id IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX outbox_dead_fingerprint_idx ON outbox_dead USING btree (fingerprint);
CREATE INDEX outbox_dead_status_idx ON outbox_dead USING btree (status, last_failed_at);
CREATE INDEX outbox_parked_until_idx ON outbox_parked USING btree (until);
CREATE INDEX quota_usage_period_idx ON quota_usage USING btree (period_start);
CREATE INDEX turn_events_begun_idx ON turn_events USING btree (created_at) WHERE seq = 0;
CREATE INDEX usage_events_tenant_idx ON usage_events USING btree (tenant_id, occurred_at);

CREATE TRIGGER attachments_purpose_immutable BEFORE UPDATE OF for_file_search, for_code_interpreter ON attachments FOR EACH ROW WHEN (old.for_file_search IS DISTINCT FROM new.for_file_search OR old.for_code_interpreter IS DISTINCT FROM new.for_code_interpreter) EXECUTE FUNCTION refuse_change();
CREATE CONSTRAINT TRIGGER chat_turns_answer_check AFTER INSERT OR UPDATE OF state, assistant_message_id ON chat_turns DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.state::text = 'completed'::text AND new.assistant_message_id IS NULL) EXECUTE FUNCTION check_completed_turn();
CREATE TRIGGER chat_turns_request_immutable BEFORE UPDATE OF request_fingerprint ON chat_turns FOR EACH ROW WHEN (old.request_fingerprint IS DISTINCT FROM new.request_fingerprint) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chat_turns_reserve_immutable BEFORE UPDATE OF reserve_tokens, reserved_credits_micro, policy_version_applied, max_output_tokens_applied, minimal_generation_floor_applied, effective_model, effective_tier, input_multiplier_micro_applied, output_multiplier_micro_applied ON chat_turns FOR EACH ROW WHEN (old.reserve_tokens IS NOT NULL AND (old.reserve_tokens IS DISTINCT FROM new.reserve_tokens OR old.reserved_credits_micro IS DISTINCT FROM new.reserved_credits_micro OR old.policy_version_applied IS DISTINCT FROM new.policy_version_applied OR old.max_output_tokens_applied IS DISTINCT FROM new.max_output_tokens_applied OR old.minimal_generation_floor_applied IS DISTINCT FROM new.minimal_generation_floor_applied OR old.effective_model::text IS DISTINCT FROM new.effective_model::text OR old.effective_tier::text IS DISTINCT FROM new.effective_tier::text OR old.input_multiplier_micro_applied IS DISTINCT FROM new.input_multiplier_micro_applied OR old.output_multiplier_micro_applied IS DISTINCT FROM new.output_multiplier_micro_applied)) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chats_owner_immutable BEFORE UPDATE OF tenant_id, user_id, model ON chats FOR EACH ROW WHEN (old.tenant_id IS DISTINCT FROM new.tenant_id OR old.user_id IS DISTINCT FROM new.user_id OR old.model::text IS DISTINCT FROM new.model::text) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER messages_owner BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION set_message_owner();
CREATE TRIGGER messages_owner_immutable BEFORE UPDATE OF user_id ON messages FOR EACH ROW WHEN (old.user_id IS DISTINCT FROM new.user_id) EXECUTE FUNCTION refuse_change();

CREATE OR REPLACE FUNCTION public.check_completed_turn()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION public.outbox_claim(p_queues text[], p_limits integer[], p_batches integer[], p_lease_ms integer[], p_park boolean[], p_token uuid, p_workers text[], p_closed bigint)
 RETURNS TABLE(partition_id integer, id bigint, message_id uuid, tenant_id uuid, order_key uuid, kind character varying, payload text, trace text, age_ms double precision, attempts integer, parked boolean)
 LANGUAGE sql
AS $function$
  select *
  from outbox_claim(
    p_queues, p_limits, p_batches, p_lease_ms, p_park, p_token, p_workers, p_closed, '{}'::int[],
    '{}'::uuid[]
  )
$function$;

CREATE OR REPLACE FUNCTION public.outbox_claim(p_queues text[], p_limits integer[], p_batches integer[], p_lease_ms integer[], p_park boolean[], p_token uuid, p_workers text[], p_closed bigint, p_kept integer[], p_kept_tokens uuid[])
 RETURNS TABLE(partition_id integer, id bigint, message_id uuid, tenant_id uuid, order_key uuid, kind character varying, payload text, trace text, age_ms double precision, attempts integer, parked boolean)
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
  v_ids int[];
  v_waiting int[];
  v_id int;
  v_looks int;
  v_spent interval;
  v_next int;
  v_left int;
  v_rows int;
  v_first bigint;
  v_began timestamptz;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'outbox_claim needs read committed';
  end if;
  perform set_config('synchronous_commit', 'off', true);

  for v_queue in 1 .. cardinality(p_queues) loop
    v_left := p_limits[v_queue];
    -- Partitions in which some key waits are read one by one, and some give nothing. A claim looks at few
    -- of those, so that a queue whose receiver is down does not delay what other queues bring: with all
    -- 64 of a queue a look that gave nothing took 7 ms. The first one it leaves is v_next; from then on
    -- only partitions are taken in which no key waits.
    v_looks := 4;
    v_spent := interval '0';
    v_next := null;

    -- Partitions that give nothing, because all their keys wait or because somebody has emptied them
    -- meanwhile, must not take the place of others: then the next ones are looked at. The rounds are
    -- bounded; what they leave has waited longest at the next claim.
    for v_round in 1 .. 6 loop
      -- Kept ones first, then the least recently served. The scalar subquery cannot be pulled up into a
      -- join, so each partition costs one probe of the primary key.
      select array_agg(due.id)
      into v_ids
      from (
        select p.id
        from outbox_partition p
        where p.queue = p_queues[v_queue]
          and not p.paused
          and (
            p.lease_until is null
            or p.lease_until <= now()
            or p.lease_token = p_kept_tokens[array_position(p_kept, p.id)]
          )
          and (p.not_before is null or p.not_before <= now())
          and (
            select m.id
            from outbox_message m
            where m.partition_id = p.id
              and m.id >= p.scan_from
            order by m.id
            limit 1
          ) is not null
          and (
            v_next is null
            or (select k.partition_id from outbox_parked k where k.partition_id = p.id limit 1) is null
          )
        order by array_position(p_kept, p.id) is null, p.last_served_at nulls first
        limit v_left
        for update of p skip locked
      ) due;
      exit when v_ids is null;

      v_waiting := '{}';
      if p_park[v_queue] then
        select coalesce(array_agg(d.id order by d.place), '{}')
        into v_waiting
        from unnest(v_ids) with ordinality as d (id, place)
        where (select k.partition_id from outbox_parked k where k.partition_id = d.id limit 1) is not null;
      end if;

      v_rows := v_left;
      if cardinality(v_waiting) < cardinality(v_ids) then
        return query
        with head as materialized (
          select
            m.partition_id, m.id, m.message_id, m.tenant_id, m.order_key, m.kind, m.payload, m.trace,
            m.created_at, case when m.id = p.head_id then p.head_attempts + 1 else 1 end as attempts
          from outbox_partition p
          cross join lateral (
            select *
            from outbox_message q
            where q.partition_id = p.id
              and q.id >= p.scan_from
            order by q.id
            limit p_batches[v_queue]
          ) m
          where p.id = any (v_ids)
            and p.id <> all (v_waiting)
        ),
        leased as (
          update outbox_partition p
          set
            lease_token = p_token,
            lease_until = now() + p_lease_ms[v_queue] * interval '1 ms',
            locked_by = p_workers[v_queue],
            not_before = null,
            head_attempts = case when p.head_id = f.id then p.head_attempts + 1 else 1 end,
            head_id = f.id,
            scan_from = greatest(p.scan_from, least(f.id, p_closed + 1)),
            last_served_at = now()
          from (select h.partition_id, min(h.id) as id from head h group by h.partition_id) f
          where p.id = f.partition_id
        )
        select
          h.partition_id, h.id, h.message_id, h.tenant_id, h.order_key, h.kind, h.payload, h.trace,
          extract(epoch from now() - h.created_at)::float8 * 1000, h.attempts, false
        from head h;

        select v_left - count(*)
        into v_left
        from outbox_partition p
        where p.id = any (v_ids)
          and p.lease_token = p_token;
      end if;

      foreach v_id in array v_waiting loop
        if v_looks = 0 then
          v_next := v_id;
          exit;
        end if;
        -- Some key waits. The first message of each key whose wait is over is a probe; of the rest only
        -- messages of keys that do not wait are free. The next wait of a probe's key is written now, the
        -- acknowledgement corrects it: should this worker die of it, its neighbours are served first.
        v_began := clock_timestamp();
        select m.id
        into v_first
        from outbox_partition p
        cross join lateral (
          select q.id
          from outbox_message q
          where q.partition_id = p.id
            and q.id >= p.scan_from
          order by q.id
          limit 1
        ) m
        where p.id = v_id;
        continue when v_first is null;

        -- The bound of the free messages is read in the statement that uses it. Bound by v_first, they
        -- would lack what was committed with a smaller id since, and what follows it would be handed
        -- over first.
        return query
        with waiting as materialized (
          select w.ctid as tid, w.order_key, w.from_id, w.attempts, w.until
          from outbox_parked w
          where w.partition_id = v_id
        ),
        probe as materialized (
          select q.*, k.tid, k.attempts as parked_attempts
          from (
            select *
            from waiting w
            where w.until <= now()
            order by w.from_id
            limit p_batches[v_queue]
          ) k
          cross join lateral (
            select *
            from outbox_message o
            where o.partition_id = v_id
              and o.id >= k.from_id
              and o.order_key = k.order_key
            order by o.id
            limit 1
          ) q
        ),
        free as materialized (
          select q.*
          from outbox_message q
          where q.partition_id = v_id
            and q.id >= (
              select greatest(p.scan_from, p.read_from)
              from outbox_partition p
              where p.id = v_id
            )
            and q.order_key not in (select w.order_key from waiting w)
          order by q.id
          limit p_batches[v_queue]
        ),
        tried as materialized (
          select t.*
          from (
            select r.* from probe r
            union all
            select f.*, null::tid, null::int from free f
          ) t
          order by t.id
          limit p_batches[v_queue]
        ),
        leased as (
          update outbox_partition p
          set
            lease_token = p_token,
            lease_until = now() + p_lease_ms[v_queue] * interval '1 ms',
            locked_by = p_workers[v_queue],
            not_before = null,
            head_attempts = case
              when f.id is null then p.head_attempts
              when p.head_id = f.id then p.head_attempts + 1
              else 1
            end,
            head_id = coalesce(f.id, p.head_id),
            scan_from = greatest(p.scan_from, least(v_first, p_closed + 1)),
            read_from = greatest(
              p.read_from,
              least((select min(e.id) from free e), p_closed + 1)
            ),
            last_served_at = now()
          from (
            select count(*) as messages, min(t.id) filter (where t.tid is null) as id
            from tried t
          ) f
          where p.id = v_id
            and f.messages > 0
        ),
        resumed as (
          update outbox_parked k
          set
            attempts = k.attempts + 1,
            until = now()
              + (p_lease_ms[v_queue] + least(60000, 500 * 2 ^ least(k.attempts, 10))) * interval '1 ms'
          where k.ctid = any (array(select t.tid from tried t where t.tid is not null))
        )
        select
          t.partition_id, t.id, t.message_id, t.tenant_id, t.order_key, t.kind, t.payload, t.trace,
          extract(epoch from now() - t.created_at)::float8 * 1000,
          coalesce(
            t.parked_attempts + 1,
            case when t.id = p.head_id then p.head_attempts + 1 else 1 end
          ),
          t.tid is not null
        from tried t
        cross join outbox_partition p
        where p.id = v_id
        order by t.id;

        if found then
          v_left := v_left - 1;
          continue;
        end if;

        -- Every key waits, so everything decided is behind the next look's bound. Should the horizon not
        -- move, because some transaction stays open, the next look is due after twenty times what this
        -- one took, for all such partitions: at most 5 % of one core.
        update outbox_partition p
        set
          not_before = least(
            (
              select min(k.until)
              from outbox_parked k
              where k.partition_id = v_id
                and k.until > now()
            ),
            now()
              + greatest(
                interval '100 ms',
                20 * cardinality(v_waiting) * (clock_timestamp() - v_began)
              )
          ),
          scan_from = greatest(p.scan_from, least(v_first, p_closed + 1)),
          read_from = greatest(p.read_from, p_closed + 1),
          last_served_at = now()
        where p.id = v_id;
        v_looks := v_looks - 1;
        v_spent := v_spent + (clock_timestamp() - v_began);
      end loop;
      exit when v_left = 0 or cardinality(v_ids) < v_rows;
    end loop;

    -- What was left is due, but nobody is told: the next claim would wait for those that were looked at.
    -- One due time in the future brings it on, within the same 5 % of one core.
    if v_next is not null then
      update outbox_partition p
      set not_before = clock_timestamp() + greatest(interval '20 ms', 20 * v_spent)
      where p.id = v_next;
    end if;
  end loop;

  -- Kept for this claim, which had no use for them: emptied, paused, or their queue was not asked for.
  if cardinality(p_kept) > 0 then
    update outbox_partition p
    set
      lease_token = null,
      lease_until = null,
      locked_by = null
    where p.id = any (p_kept)
      and p.lease_token = p_kept_tokens[array_position(p_kept, p.id)];
  end if;
end
$function$;

CREATE OR REPLACE FUNCTION public.outbox_horizon(OUT last_id bigint, OUT writers text[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
begin
  select case when s.is_called then s.last_value else 0 end
  into last_id
  from outbox_message_id_seq s;
  select coalesce(array_agg(l.virtualtransaction), '{}')
  into writers
  from pg_locks l
  where l.locktype = 'relation'
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and l.relation = 'outbox_message'::regclass
    and l.mode = 'RowExclusiveLock';
end
$function$;

CREATE OR REPLACE FUNCTION public.outbox_next_due(p_queues text[])
 RETURNS double precision
 LANGUAGE plpgsql
 STABLE
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
begin
  return (
    select
      extract(
        epoch from least(
          min(p.not_before) filter (where p.not_before > now()),
          min(p.lease_until) filter (where p.lease_until > now()),
          (
            select k.until
            from outbox_parked k
            join outbox_partition o on o.id = k.partition_id
            where k.until > now()
              and o.queue = any (p_queues)
            order by k.until
            limit 1
          )
        ) - now()
      )::float8 * 1000
    from outbox_partition p
    where p.queue = any (p_queues)
  );
end
$function$;

CREATE OR REPLACE FUNCTION public.outbox_settle(p_partitions integer[], p_tokens uuid[], p_delays_ms double precision[], p_heads bigint[], p_attempts integer[], p_errors text[], p_done_partitions integer[], p_done_ids bigint[], p_dead_partitions integer[], p_dead_ids bigint[], p_dead_attempts integer[], p_dead_errors text[], p_parked_partitions integer[], p_parked_keys uuid[], p_parked_delays_ms double precision[], p_parked_attempts integer[], p_resumed_partitions integer[], p_resumed_keys uuid[])
 RETURNS integer[]
 LANGUAGE sql
AS $function$
  select outbox_settle(
    p_partitions, p_tokens, p_delays_ms, p_heads, p_attempts, p_errors, p_done_partitions, p_done_ids,
    p_dead_partitions, p_dead_ids, p_dead_attempts, p_dead_errors, p_parked_partitions, p_parked_keys,
    p_parked_delays_ms, p_parked_attempts, p_resumed_partitions, p_resumed_keys, '{}'::int[], null::uuid
  )
$function$;

CREATE OR REPLACE FUNCTION public.outbox_settle(p_partitions integer[], p_tokens uuid[], p_delays_ms double precision[], p_heads bigint[], p_attempts integer[], p_errors text[], p_done_partitions integer[], p_done_ids bigint[], p_dead_partitions integer[], p_dead_ids bigint[], p_dead_attempts integer[], p_dead_errors text[], p_parked_partitions integer[], p_parked_keys uuid[], p_parked_delays_ms double precision[], p_parked_attempts integer[], p_resumed_partitions integer[], p_resumed_keys uuid[], p_kept integer[], p_kept_token uuid)
 RETURNS integer[]
 LANGUAGE sql
AS $function$
  select outbox_settle(
    p_partitions, p_tokens, p_delays_ms, p_heads, p_attempts, p_errors, p_done_partitions, p_done_ids,
    p_dead_partitions, p_dead_ids, p_dead_attempts, p_dead_errors, p_parked_partitions, p_parked_keys,
    p_parked_delays_ms, p_parked_attempts, p_resumed_partitions, p_resumed_keys, p_kept, p_kept_token,
    '{}'::text[]
  )
$function$;

CREATE OR REPLACE FUNCTION public.outbox_settle(p_partitions integer[], p_tokens uuid[], p_delays_ms double precision[], p_heads bigint[], p_attempts integer[], p_errors text[], p_done_partitions integer[], p_done_ids bigint[], p_dead_partitions integer[], p_dead_ids bigint[], p_dead_attempts integer[], p_dead_errors text[], p_parked_partitions integer[], p_parked_keys uuid[], p_parked_delays_ms double precision[], p_parked_attempts integer[], p_resumed_partitions integer[], p_resumed_keys uuid[], p_kept integer[], p_kept_token uuid, p_parked_errors text[])
 RETURNS integer[]
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
declare
  v_held int[];
begin
  perform set_config('synchronous_commit', 'off', true);

  with freed as (
    update outbox_partition p
    set
      lease_token = case when a.id = any (p_kept) then p_kept_token end,
      lease_until = case when a.id = any (p_kept) then p.lease_until end,
      locked_by = case when a.id = any (p_kept) then p.locked_by end,
      not_before = now() + a.delay_ms * interval '1 ms',
      head_id = coalesce(a.head_id, p.head_id),
      head_attempts = coalesce(a.head_attempts, p.head_attempts),
      last_error = a.error
    from unnest(p_partitions, p_tokens, p_delays_ms, p_heads, p_attempts, p_errors)
      as a (id, token, delay_ms, head_id, head_attempts, error)
    where p.id = a.id
      and p.lease_token = a.token
    returning p.id
  )
  select coalesce(array_agg(f.id), '{}')
  into v_held
  from freed f;

  delete from outbox_message m
  where m.ctid = any (array(
    select q.tid
    from unnest(p_done_partitions, p_done_ids) as d (partition_id, id)
    cross join lateral (
      select o.ctid as tid
      from outbox_message o
      where o.partition_id = d.partition_id
        and o.id = d.id
      limit 1
    ) q
    where d.partition_id = any (v_held)
  ));

  if cardinality(p_dead_ids) > 0 then
    with gone as materialized (
      select
        q.ctid as tid, q.partition_id, q.id, q.message_id, q.tenant_id, q.order_key, q.kind, q.payload,
        q.trace, q.created_at, d.attempts, d.error
      from unnest(p_dead_partitions, p_dead_ids, p_dead_attempts, p_dead_errors)
        as d (partition_id, id, attempts, error)
      cross join lateral (
        select o.ctid, o.*
        from outbox_message o
        where o.partition_id = d.partition_id
          and o.id = d.id
        limit 1
      ) q
      where d.partition_id = any (v_held)
    ),
    removed as (
      delete from outbox_message m
      where m.ctid = any (array(select g.tid from gone g))
    )
    insert into outbox_dead (
      queue, partition_id, message_id, tenant_id, order_key, kind, payload, trace, created_at,
      attempts, first_failed_at, error, fingerprint
    )
    select
      p.queue, g.partition_id, g.message_id, g.tenant_id, g.order_key, g.kind, g.payload, g.trace,
      g.created_at, g.attempts,
      -- Of a key that waits only its first message is tried: the wait is that message's.
      coalesce(
        (
          select k.since
          from outbox_parked k
          where k.partition_id = g.partition_id
            and k.order_key = g.order_key
          limit 1
        ),
        now()
      ),
      g.error,
      md5(p.queue || ' ' || regexp_replace(g.error, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g'))
    from gone g
    join outbox_partition p on p.id = g.partition_id
    order by g.id;
  end if;

  if cardinality(p_parked_keys) > 0 then
    -- Whatever lies below the partition's bound belongs to keys that had waited already, and this key
    -- had not when the bound was set.
    insert into outbox_parked as w (partition_id, order_key, until, attempts, from_id, error)
    select
      k.partition_id, k.order_key, now() + k.delay_ms * interval '1 ms', k.attempts,
      (select greatest(p.scan_from, p.read_from) from outbox_partition p where p.id = k.partition_id),
      k.error
    from unnest(p_parked_partitions, p_parked_keys, p_parked_delays_ms, p_parked_attempts, p_parked_errors)
      as k (partition_id, order_key, delay_ms, attempts, error)
    where k.partition_id = any (v_held)
    on conflict (partition_id, order_key) do update
    set
      until = excluded.until,
      attempts = excluded.attempts,
      error = coalesce(excluded.error, w.error);
  end if;

  if cardinality(p_resumed_keys) > 0 then
    with resumed as (
      delete from outbox_parked k
      where k.ctid = any (array(
        select w.tid
        from unnest(p_resumed_partitions, p_resumed_keys) as r (partition_id, order_key)
        cross join lateral (
          select o.ctid as tid
          from outbox_parked o
          where o.partition_id = r.partition_id
            and o.order_key = r.order_key
          limit 1
        ) w
        where r.partition_id = any (v_held)
      ))
      returning k.partition_id, k.from_id
    )
    update outbox_partition p
    set read_from = least(p.read_from, r.from_id)
    from (select s.partition_id, min(s.from_id) as from_id from resumed s group by s.partition_id) r
    where p.id = r.partition_id;
  end if;

  return v_held;
end
$function$;

CREATE OR REPLACE FUNCTION public.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  raise exception 'immutable columns of % must not change', tg_table_name
    using errcode = 'check_violation', table = tg_table_name, constraint = tg_name;
end
$function$;

CREATE OR REPLACE FUNCTION public.search_key(tenant_id uuid, user_id uuid, period bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN uuid_hash_extended(user_id, uuid_hash_extended(tenant_id, period));

CREATE OR REPLACE FUNCTION public.search_keys(tenant_id uuid, user_id uuid, at timestamp with time zone)
 RETURNS bigint[]
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN ARRAY[search_key(tenant_id, user_id, (0)::bigint), search_key(tenant_id, user_id, search_period(at))];

CREATE OR REPLACE FUNCTION public.search_period(at timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN (floor((EXTRACT(epoch FROM (at AT TIME ZONE 'UTC'::text)) / (2592000)::numeric)))::bigint;

CREATE OR REPLACE FUNCTION public.search_terms(content text)
 RETURNS tsvector
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
RETURN to_tsvector('simple'::regconfig, regexp_replace("left"(content, 50000), '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u00d7\u00f7\u060c\u061b\u061f\u06d4\u0964\u0965\u2000-\u2bff\u3000-\u3004\u3008-\u3020\ufe10-\ufe6f\ufeff-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufff0-\uffff\U0001f000-\U0001faff]+'::text, ' '::text, 'g'::text));

CREATE OR REPLACE FUNCTION public.set_message_owner()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
begin
  new.user_id := (
    select c.user_id
    from chats c
    where c.id = new.chat_id
      and c.tenant_id = new.tenant_id
  );
  return new;
end
$function$;
