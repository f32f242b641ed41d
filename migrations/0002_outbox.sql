-- The transactional outbox: one ordered table per process group, fenced by leases on its partitions
-- (outbox-engine.md). Not tenant-scoped; reached by the outbox slice only.

create table outbox_partition (
  id int generated always as identity primary key,
  queue varchar(1024) not null,
  no int not null check (no >= 0),
  lease_token uuid,
  lease_until timestamptz,
  locked_by text,
  -- Back-off of the whole partition; null = due.
  not_before timestamptz,
  -- The message the attempts belong to. Raised at the claim, so that a crash counts.
  head_id bigint,
  head_attempts int not null default 0 check (head_attempts >= 0),
  -- No message below this id is there or can still be committed: claims start here, past the deleted
  -- rows that cannot be vacuumed while some snapshot is held. 0 after moving messages by hand.
  scan_from bigint not null default 0,
  paused boolean not null default false,
  last_served_at timestamptz,
  last_error text,
  unique (queue, no)
) with (
  -- No index covers a changing column: with free space on the page every lease is a HOT update.
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 500,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 5000
);

create table outbox_message (
  partition_id int not null,
  id bigint generated always as identity,
  -- The stable idempotency key of every delivery.
  message_id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  order_key uuid not null,
  kind varchar(1024) not null,
  -- JSON as it was enqueued; opaque here, so it is neither parsed nor rewritten.
  payload text not null check (octet_length(payload) <= 65536),
  trace text,
  created_at timestamptz not null default now(),
  primary key (partition_id, id)
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 50000
);

-- Order keys of `park_key` queues that wait after a failure, while their neighbours go on.
create table outbox_parked (
  partition_id int not null,
  order_key uuid not null,
  until timestamptz not null,
  attempts int not null check (attempts >= 0),
  primary key (partition_id, order_key)
) with (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 200
);

-- The next one due is asked for at every pass.
create index outbox_parked_until_idx on outbox_parked (until);

-- A self-contained copy of every message that was given up (outbox.md §11).
create table outbox_dead (
  id bigint generated always as identity primary key,
  queue varchar(1024) not null,
  partition_id int not null,
  message_id uuid not null,
  tenant_id uuid not null,
  order_key uuid not null,
  kind varchar(1024) not null,
  payload text not null,
  trace text,
  created_at timestamptz not null,
  attempts int not null,
  first_failed_at timestamptz not null default now(),
  last_failed_at timestamptz not null default now(),
  error text not null,
  -- Groups dead letters of one cause: queue and error without their numbers and ids.
  fingerprint text not null,
  status varchar(16) not null default 'pending'
    check (status in ('pending', 'replaying', 'resolved', 'discarded')),
  deadline timestamptz,
  replay_count int not null default 0 check (replay_count >= 0),
  completed_at timestamptz,
  check ((status = 'replaying') = (deadline is not null)),
  check ((status in ('resolved', 'discarded')) = (completed_at is not null))
);

create index outbox_dead_status_idx on outbox_dead (status, last_failed_at);
create index outbox_dead_fingerprint_idx on outbox_dead (fingerprint);

-- Leases due partitions and returns the head of each (outbox-engine.md, Claim). One call serves all
-- queues; arrays are parallel, one element per queue.
--
-- Locking and reading are two statements on purpose: the second one takes a snapshot that is newer
-- than the lock, so it sees what the previous holder deleted. In one statement the row lock would be
-- rechecked but the messages would not, and they would be delivered twice.
--
-- The plan is pinned: on a mostly empty table the planner's estimates flip to plans that read all of
-- it, and on a full one they reach the cost at which the server compiles the statement, which takes
-- longer than it runs. For the same reason rows are looked up one by one through a lateral subquery
-- with a limit, which admits no other plan than a probe of the primary key: as a plain join the lookup
-- of a session that planned it on an empty table read the whole backlog at each acknowledgement
-- (measured: 31 ms instead of 0.2 with 20,000 messages waiting). Losing a claim or an acknowledgement with the server costs a redelivery, never
-- a message, so neither waits for its WAL.
create function outbox_claim(
  p_queues text[],
  p_limits int[],
  p_batches int[],
  p_lease_ms int[],
  p_park boolean[],
  p_token uuid,
  p_workers text[],
  p_closed bigint
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
  v_id int;
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

    -- Partitions that give nothing, because all their keys wait or because somebody has emptied them
    -- meanwhile, must not take the place of others: then the next ones are looked at. The rounds are
    -- bounded; what they leave has waited longest at the next claim.
    for v_round in 1 .. 4 loop
      -- Least recently served first. The scalar subquery cannot be pulled up into a join, so each
      -- partition costs one probe of the primary key.
      select array_agg(due.id)
      into v_ids
      from (
        select p.id
        from outbox_partition p
        where p.queue = p_queues[v_queue]
          and not p.paused
          and (p.lease_until is null or p.lease_until <= now())
          and (p.not_before is null or p.not_before <= now())
          and (
            select m.id
            from outbox_message m
            where m.partition_id = p.id
              and m.id >= p.scan_from
            order by m.id
            limit 1
          ) is not null
        order by p.last_served_at nulls first
        limit v_left
        for update of p skip locked
      ) due;
      exit when v_ids is null;

      if not p_park[v_queue]
        or not exists (select from outbox_parked k where k.partition_id = any (v_ids))
      then
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

        exit when cardinality(v_ids) < v_left;
        select v_left - count(*)
        into v_left
        from outbox_partition p
        where p.id = any (v_ids)
          and p.lease_token = p_token;
        exit when v_left = 0;
        continue;
      end if;

      v_rows := v_left;
      foreach v_id in array v_ids loop
        -- Some key waits: read around it, and count the attempt of keys whose wait is over. Their next
        -- wait is written now, the acknowledgement corrects it: should this worker die of them, their
        -- neighbours are served first. The waiting keys are hashed once, not probed per message.
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

        return query
        with head as materialized (
          select q.*
          from outbox_message q
          where q.partition_id = v_id
            and q.id >= v_first
            and q.order_key not in (
              select w.order_key
              from outbox_parked w
              where w.partition_id = v_id
                -- Not by the index on until, which has the keys of all partitions.
                and w.until + interval '0' > now()
            )
          order by q.id
          limit p_batches[v_queue]
        ),
        tried as materialized (
          select h.*, k.tid, k.attempts as parked_attempts
          from head h
          left join lateral (
            select o.ctid as tid, o.attempts
            from outbox_parked o
            where o.partition_id = h.partition_id
              and o.order_key = h.order_key
            limit 1
          ) k on true
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
            scan_from = greatest(p.scan_from, least(v_first, p_closed + 1)),
            last_served_at = now()
          from (select min(h.id) as id from head h) f
          where p.id = v_id
            and f.id is not null
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
          t.parked_attempts is not null
        from tried t
        cross join outbox_partition p
        where p.id = v_id
        order by t.id;

        if found then
          v_left := v_left - 1;
          continue;
        end if;

        -- Every key waits. Looking again costs a scan over the waiting messages, so the next look is due
        -- after twenty times what this one took, for all such partitions: at most 5 % of one core.
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
                20 * cardinality(v_ids) * (clock_timestamp() - v_began)
              )
          ),
          scan_from = greatest(p.scan_from, least(v_first, p_closed + 1)),
          last_served_at = now()
        where p.id = v_id;
      end loop;
      exit when v_left = 0 or cardinality(v_ids) < v_rows;
    end loop;
  end loop;
end
$$;

-- What claims need to know to start past deleted messages: the last id handed out, and who may still
-- commit a message with it or a smaller one. An insert locks the table before it takes its id, so
-- whoever is not among the writers, read after the id, has ended: once all of them have, no message up
-- to the id can appear any more.
create function outbox_horizon(out last_id bigint, out writers text[])
language plpgsql
volatile
as $$
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
$$;

-- Acknowledges what workers finished and frees their leases (outbox-engine.md, Acknowledge). Returns
-- the partitions whose lease still stood; of any other partition nothing changes. Only ids that were
-- handed over are deleted, never a range: a smaller id may have been committed meanwhile.
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
  p_resumed_keys uuid[]
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
      lease_token = null,
      lease_until = null,
      locked_by = null,
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
    insert into outbox_parked (partition_id, order_key, until, attempts)
    select k.partition_id, k.order_key, now() + k.delay_ms * interval '1 ms', k.attempts
    from unnest(p_parked_partitions, p_parked_keys, p_parked_delays_ms, p_parked_attempts)
      as k (partition_id, order_key, delay_ms, attempts)
    where k.partition_id = any (v_held)
    on conflict (partition_id, order_key) do update
    set
      until = excluded.until,
      attempts = excluded.attempts;
  end if;

  if cardinality(p_resumed_keys) > 0 then
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
    ));
  end if;

  return v_held;
end
$$;

-- Milliseconds until something that waits becomes due: a back-off, a parked key, the lease of a worker
-- that may be dead. Null when nothing waits.
create function outbox_next_due(p_queues text[]) returns float8
language plpgsql
stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
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
$$;
