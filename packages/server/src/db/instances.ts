import { type Loop, startLoop } from "../lib/loop.ts";
import { sleep } from "../lib/sleep.ts";
import type { Queryable, Statement } from "./pool.ts";
import type { Tx } from "./tx.ts";

/** This process, as others see it: its id owns the turns it runs (turns.md §16.3). */
export interface Instance {
  readonly id: string;
  readonly role: "all" | "api" | "worker";
  readonly version: string;
}

// `started_at` is the start of an unbroken lease: the watchdog trusts the silence of others only while
// somebody reported without a gap. One report that is missing is a gap.
const renewStatement: Statement = {
  name: "instance_renew",
  text: `
    insert into app_instances (id, role, version)
    values ($1, $2, $3)
    on conflict (id) do update
    set
      last_seen_at = now(),
      started_at = case
        when app_instances.last_seen_at < now() - make_interval(secs => $4::float8 / 2) then now()
        else app_instances.started_at
      end`,
};

/**
 * Registers the instance, or renews its sign of life. It re-registers by itself what a sweep removed
 * while the process slept, and begins anew when it was silent for more than half its lease. `timeoutMs`:
 * longest wait for the answer; default: that of the pool.
 */
export const renewInstance = async (
  db: Queryable,
  instance: Instance,
  leaseSecs: number,
  timeoutMs?: number,
): Promise<void> => {
  const statement = timeoutMs === undefined ? renewStatement : { ...renewStatement, timeoutMs };
  await db.query(statement, [instance.id, instance.role, instance.version, leaseSecs]);
};

/** How long a renewal may hang on a connection that died: several fit into what is left of the lease. */
const attemptMs = (leaseSecs: number): number => Math.min(5_000, (leaseSecs * 1_000) / 6);

/**
 * Renews the instance every third of its lease (ops.md §8) until stopped; a failed renewal is reported
 * and soon tried again.
 */
export const startHeartbeat = (
  db: Queryable,
  instance: Instance,
  options: { readonly leaseSecs: number; readonly onError: (error: unknown) => void },
): Loop => {
  const { leaseSecs, onError } = options;
  const renew = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      try {
        return await renewInstance(db, instance, leaseSecs, attemptMs(leaseSecs));
      } catch (error) {
        if (!signal.aborted) onError(error);
      }
      await sleep(attemptMs(leaseSecs) / 2, signal);
    }
  };
  return startLoop(renew, { intervalMs: (leaseSecs * 1_000) / 3, onError });
};

const removeStatement: Statement = {
  name: "instance_remove",
  text: `
    delete from app_instances
    where id = $1`,
};

/** Takes the instance off the list at the end of a graceful shutdown (ops.md §9); stop its heartbeat first. */
export const removeInstance = async (db: Queryable, id: string): Promise<void> => {
  await db.query(removeStatement, [id]);
};

// Index: app_instances_seen_idx.
const removeStaleStatement: Statement = {
  name: "instance_remove_stale",
  text: `
    delete from app_instances
    where last_seen_at < now() - make_interval(secs => $1)`,
};

/**
 * Removes instances not seen for so many seconds and returns how many. An absent owner is as dead as
 * a silent one, so nothing is lost with the row.
 */
export const removeStaleInstances = async (db: Queryable, silentSecs: number): Promise<number> =>
  (await db.query(removeStaleStatement, [silentSecs])).rowCount;

const liveWorkersStatement: Statement = {
  name: "instance_live_workers",
  text: `
    select count(*)::int as count
    from app_instances
    where role in ('worker', 'all')
      and last_seen_at > now() - make_interval(secs => $1)`,
};

/** How many instances that run workers were seen in the last seconds; none for 60 s is degraded health (ops.md §4). */
export const countLiveWorkers = async (db: Queryable, withinSecs: number): Promise<number> =>
  (await db.query<{ count: number }>(liveWorkersStatement, [withinSecs])).rows[0]?.count ?? 0;

export interface LiveInstance {
  readonly id: string;
  readonly role: Instance["role"];
  /** Seconds since its last sign of life. */
  readonly silentSecs: number;
}

const liveStatement: Statement = {
  name: "instance_live",
  text: `
    select
      id, role,
      extract(epoch from now() - last_seen_at)::float8 as "silentSecs"
    from app_instances
    where last_seen_at > now() - make_interval(secs => $1)
    order by last_seen_at desc
    limit 20`,
};

/** Processes of every role seen in the last seconds, at most 20. */
export const listLiveInstances = async (db: Queryable, withinSecs: number): Promise<LiveInstance[]> =>
  (await db.query<LiveInstance>(liveStatement, [withinSecs])).rows;

/** Keeps processes from starting, and from renewing their lease, until the transaction ends. */
export const lockInstances = async (tx: Tx): Promise<void> => {
  await tx.query("lock table app_instances in share row exclusive mode");
};
