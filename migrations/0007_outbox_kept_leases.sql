-- A worker keeps the lease of a busy partition from its acknowledgement to its next claim, up to a fair
-- share, instead of freeing it for whoever comes first (outbox-engine.md, Acknowledge). It is kept under a
-- new token: a claim that follows an acknowledgement which failed finds none, and delivers nothing twice.
-- The claim takes kept partitions first and frees those it has no use for.

drop function outbox_claim(text[], int[], int[], int[], boolean[], uuid, text[], bigint);
drop function outbox_settle(
  int[], uuid[], float8[], bigint[], int[], text[], int[], bigint[], int[], bigint[], int[], text[], int[],
  uuid[], float8[], int[], int[], uuid[]
);

create function outbox_claim(
  p_queues text[],
  p_limits int[],
  p_batches int[],
  p_lease_ms int[],
  p_park boolean[],
  p_token uuid,
  p_workers text[],
  p_closed bigint,
  p_kept int[],
  p_kept_tokens uuid[]
) returns table (
  partition_id int,
  id bigint,
  message_id uuid,
  tenant_id uuid,
  order_key uuid,
  kind varchar,
  payload text,
  trace text,
  age_ms float8,
  attempts int,
  parked boolean
)
language plpgsql
volatile
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_ids int[];
  v_waiting int[];
  v_id int;
  v_looks int;
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
    -- of them, so that a queue whose receiver is down does not delay what other queues bring: with all
    -- 64 of a queue a look that gave nothing took 7 ms.
    v_looks := 4;

    -- Partitions that give nothing, because all their keys wait or because somebody has emptied them
    -- meanwhile, must not take the place of others: then the next ones are looked at. The rounds are
    -- bounded; what they leave has waited longest at the next claim.
    for v_round in 1 .. 4 loop
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
        exit when v_looks = 0;
        v_looks := v_looks - 1;
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
      end loop;
      exit when v_left = 0 or v_looks = 0 or cardinality(v_ids) < v_rows;
    end loop;
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
$$;

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
  p_kept_token uuid
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
      attempts, error, fingerprint
    )
    select
      p.queue, g.partition_id, g.message_id, g.tenant_id, g.order_key, g.kind, g.payload, g.trace,
      g.created_at, g.attempts, g.error,
      md5(p.queue || ' ' || regexp_replace(g.error, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g'))
    from gone g
    join outbox_partition p on p.id = g.partition_id
    order by g.id;
  end if;

  if cardinality(p_parked_keys) > 0 then
    -- Whatever lies below the partition's bound belongs to keys that had waited already, and this key
    -- had not when the bound was set.
    insert into outbox_parked (partition_id, order_key, until, attempts, from_id)
    select
      k.partition_id, k.order_key, now() + k.delay_ms * interval '1 ms', k.attempts,
      (select greatest(p.scan_from, p.read_from) from outbox_partition p where p.id = k.partition_id)
    from unnest(p_parked_partitions, p_parked_keys, p_parked_delays_ms, p_parked_attempts)
      as k (partition_id, order_key, delay_ms, attempts)
    where k.partition_id = any (v_held)
    on conflict (partition_id, order_key) do update
    set
      until = excluded.until,
      attempts = excluded.attempts;
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
