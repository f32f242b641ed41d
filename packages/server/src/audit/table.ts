import type { Statement } from "../db/pool.ts";

/** The table of published audit events (`plugins.audit.type: postgres`), where no migration makes it. */
export const createAuditTable = `
  create table if not exists audit_events (
    idempotency_key text primary key,
    message_id uuid not null,
    tenant_id uuid not null,
    user_id uuid,
    chat_id uuid not null,
    turn_id uuid,
    occurred_at timestamptz not null,
    event_type text not null,
    event jsonb not null,
    recorded_at timestamptz not null default now()
  );
  do $$
  begin
    -- A table of an earlier version, from before there were events of no turn. Whoever may not alter it
    -- still gets every other event in.
    if exists (
      select from pg_attribute
      where attrelid = 'audit_events'::regclass and attname = 'turn_id' and attnotnull
    ) then
      alter table audit_events alter column turn_id drop not null;
    end if;
  exception when insufficient_privilege then null;
  end $$;
  create index if not exists audit_events_tenant_idx on audit_events (tenant_id, occurred_at)`;

export const insertAuditEvents: Statement = {
  name: "audit_event_insert",
  text: `
    insert into audit_events (
      idempotency_key, message_id, tenant_id, user_id, chat_id, turn_id, occurred_at, event_type, event
    )
    select
      e.key, e.message_id, e.tenant_id,
      coalesce(e.event ->> 'actor_user_id', e.event ->> 'user_id')::uuid,
      (e.event ->> 'chat_id')::uuid, (e.event ->> 'turn_id')::uuid,
      (e.event ->> 'timestamp')::timestamptz, e.event ->> 'event_type', e.event
    from unnest($1::text[], $2::uuid[], $3::uuid[], $4::jsonb[]) as e (key, message_id, tenant_id, event)
    on conflict (idempotency_key) do nothing`,
};
