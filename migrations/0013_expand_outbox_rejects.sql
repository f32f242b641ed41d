-- Only an operator gives up a usage or audit event (outbox-engine.md, Handlers): so what waits tells since
-- when and why, and a dead letter who gave it up.

-- Since the first failure of the message the key waits for, and its last error. Null: it waited before
-- there were these columns.
alter table outbox_parked add column since timestamptz;
alter table outbox_parked alter column since set default now();
alter table outbox_parked add column error text;

-- The operator who rejected the waiting message and why; null: its handler or the count of its attempts did.
alter table outbox_dead add column rejected_by varchar(128);
alter table outbox_dead add column reject_reason text;

create function outbox_settle(
  p_partitions int[],
  p_tokens uuid[],
  p_delays_ms float8[],
  p_heads bigint[],
  p_attempts int[],
  p_errors text[],
  p_done_partitions int[],
  p_done_ids bigint[],
  p_dead_partitions int[],
  p_dead_ids bigint[],
  p_dead_attempts int[],
  p_dead_errors text[],
  p_parked_partitions int[],
  p_parked_keys uuid[],
  p_parked_delays_ms float8[],
  p_parked_attempts int[],
  p_resumed_partitions int[],
  p_resumed_keys uuid[],
  p_kept int[],
  p_kept_token uuid,
  p_parked_errors text[]
) returns int[]
language plpgsql
volatile
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
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
$$;

-- Processes of the version before tell no errors of keys. They go on calling this while others are replaced
-- (data.md §7); to be dropped one release later.
create or replace function outbox_settle(
  p_partitions int[],
  p_tokens uuid[],
  p_delays_ms float8[],
  p_heads bigint[],
  p_attempts int[],
  p_errors text[],
  p_done_partitions int[],
  p_done_ids bigint[],
  p_dead_partitions int[],
  p_dead_ids bigint[],
  p_dead_attempts int[],
  p_dead_errors text[],
  p_parked_partitions int[],
  p_parked_keys uuid[],
  p_parked_delays_ms float8[],
  p_parked_attempts int[],
  p_resumed_partitions int[],
  p_resumed_keys uuid[],
  p_kept int[],
  p_kept_token uuid
) returns int[]
language sql
volatile
as $$
  select outbox_settle(
    p_partitions, p_tokens, p_delays_ms, p_heads, p_attempts, p_errors, p_done_partitions, p_done_ids,
    p_dead_partitions, p_dead_ids, p_dead_attempts, p_dead_errors, p_parked_partitions, p_parked_keys,
    p_parked_delays_ms, p_parked_attempts, p_resumed_partitions, p_resumed_keys, p_kept, p_kept_token,
    '{}'::text[]
  )
$$;
