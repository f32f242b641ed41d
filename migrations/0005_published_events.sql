-- Published events for those who want to query them (plugins.usage.type, plugins.audit.type: postgres).
-- Empty unless chosen; rows come from the outbox, each exactly once by its idempotency key.

create table usage_events (
  idempotency_key text primary key,
  message_id uuid not null,
  tenant_id uuid not null,
  user_id uuid,
  chat_id uuid not null,
  turn_id uuid,
  occurred_at timestamptz not null,
  effective_model text not null,
  terminal_state text not null,
  billing_outcome text not null,
  actual_credits_micro bigint not null,
  event jsonb not null,
  recorded_at timestamptz not null default now()
);
create index usage_events_tenant_idx on usage_events (tenant_id, occurred_at);

create table audit_events (
  idempotency_key text primary key,
  message_id uuid not null,
  tenant_id uuid not null,
  user_id uuid,
  chat_id uuid not null,
  turn_id uuid not null,
  occurred_at timestamptz not null,
  event_type text not null,
  event jsonb not null,
  recorded_at timestamptz not null default now()
);
create index audit_events_tenant_idx on audit_events (tenant_id, occurred_at);
