import type { Statement } from "../db/pool.ts";

/** The table of published usage events (`plugins.usage.type: postgres`), where no migration makes it. */
export const createUsageTable = `
  create table if not exists usage_events (
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
  create index if not exists usage_events_tenant_idx on usage_events (tenant_id, occurred_at)`;

export const insertUsageEvents: Statement = {
  name: "usage_event_insert",
  text: `
    insert into usage_events (
      idempotency_key, message_id, tenant_id, user_id, chat_id, turn_id, occurred_at, effective_model,
      terminal_state, billing_outcome, actual_credits_micro, event
    )
    select
      e.key, e.message_id, e.tenant_id, (e.event ->> 'user_id')::uuid, (e.event ->> 'chat_id')::uuid,
      (e.event ->> 'turn_id')::uuid, (e.event ->> 'timestamp')::timestamptz,
      e.event ->> 'effective_model', e.event ->> 'terminal_state', e.event ->> 'billing_outcome',
      (e.event ->> 'actual_credits_micro')::bigint, e.event
    from unnest($1::text[], $2::uuid[], $3::uuid[], $4::jsonb[]) as e (key, message_id, tenant_id, event)
    on conflict (idempotency_key) do nothing`,
};
