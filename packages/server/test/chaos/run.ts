import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EmbeddedPostgres, startEmbedded } from "../../src/db/embedded.ts";
import type { Settings } from "../../src/db/embedded-server.ts";
import { migrate } from "../../src/db/migrate.ts";
import type { Db } from "../../src/db/pool.ts";
import { sleep } from "../../src/lib/sleep.ts";
import type { Books, Crash } from "./evidence.ts";
import { kill, occupant, occupy, type Place, type Stage, stop } from "./places.ts";
import { type Act, type ChaosOptions, scheduleOf } from "./plan.ts";
import { judge, type Verdict } from "./verdict.ts";
import { type ChaosKind, chaosKinds, numberOfPayload, openChaosDb, sharedNow, tenantsOf } from "./world.ts";

export interface ChaosReport extends Verdict {
  readonly ok: boolean;
  readonly seed: number;
  readonly seconds: number;
  /** Of the schedule: two runs of one seed have the same. */
  readonly schedule_sha256: string;
  readonly killed: { readonly workers: number; readonly producers: number };
  readonly paused: number;
  readonly database_restarts: number;
  /** From the end of the producers until nothing waited. */
  readonly drained_after_ms: number;
}

const drainMs = 90_000;

/**
 * Plays the plan of the seed with real processes on a database of its own and judges what they wrote.
 * Everything it started is gone when it resolves.
 */
export const runChaos = async (options: ChaosOptions, settings: Settings = {}): Promise<ChaosReport> => {
  const dir = await mkdtemp(join(tmpdir(), "mini-chat-chaos-"));
  // As root the server runs as another account, which has to pass.
  await chmod(dir, 0o755);
  const server = await startEmbedded({ dataDir: join(dir, "data"), watchIntervalMs: 100, settings });
  // For a run that is interrupted; the other processes notice by themselves.
  const abandon = (): void => {
    process.kill(server.pid, "SIGKILL");
    rmSync(dir, { recursive: true, force: true });
  };
  process.once("exit", abandon);
  try {
    await migrate({ url: server.url, mode: "auto" });
    const db = openChaosDb(server.url, 2);
    try {
      await prepare(db, options.seed);
      return await play(options, { dir, db, server });
    } finally {
      await db.close();
    }
  } finally {
    process.off("exit", abandon);
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  }
};

const prepare = async (db: Db, seed: number): Promise<void> => {
  await db.query(
    "create table chaos_key (kind text, tenant_id uuid, n int not null default 0, primary key (kind, tenant_id))",
  );
  await db.query(
    "create table chaos_effect (id bigint generated always as identity, tenant_id uuid, number int)",
  );
  await db.query(
    "insert into chaos_key (kind, tenant_id) select kind, tenant_id from unnest($1::text[]) kind, unnest($2::uuid[]) tenant_id",
    [[...chaosKinds], tenantsOf(seed)],
  );
};

const play = async (options: ChaosOptions, stage: Stage): Promise<ChaosReport> => {
  const schedule = scheduleOf(options);
  const places = (["worker", "producer"] as const).flatMap((role) =>
    Array.from({ length: role === "worker" ? options.workers : options.producers }, (_, number) =>
      occupy({ role, number }, options, stage),
    ),
  );
  const background: Promise<void>[] = [];
  let crash: Crash | null = null;
  try {
    await Promise.all(places.map(({ ready }) => ready));
    const begin = performance.now();
    for (const act of schedule) {
      await sleep(Math.max(0, begin + act.atMs - performance.now()));
      if (act.kind === "restart_database") {
        const from = sharedNow();
        const over = restart(stage.server, options.restart).then(() => {
          if (options.restart === "crash") crash = { from, to: sharedNow() };
        });
        background.push(over);
      } else await perform(act, places, options, stage, background);
    }
    await sleep(Math.max(0, begin + options.seconds * 1_000 - performance.now()));
    await Promise.all(background);
    const producers = places.filter(({ role }) => role === "producer");
    for (const place of producers) await kill(place);
    const endedAt = performance.now();
    const left = await drained(stage.db, endedAt + drainMs);
    const drainedAt = performance.now();
    const workers = places.filter(({ role }) => role === "worker");
    await Promise.all(workers.map(stop));
    const evidence = {
      journals: workers.flatMap(({ journals }) => journals),
      books: { ...(await readBooks(stage.db)), left },
      leaseMs: options.leaseMs,
      crash,
    };
    const verdict = judge(evidence);
    return {
      ok: verdict.violation_count === 0,
      seed: options.seed,
      seconds: options.seconds,
      schedule_sha256: createHash("sha256").update(JSON.stringify(schedule)).digest("hex"),
      killed: countKills(schedule),
      paused: schedule.filter(({ kind }) => kind === "pause").length,
      database_restarts: schedule.filter(({ kind }) => kind === "restart_database").length,
      drained_after_ms: Math.round(drainedAt - endedAt),
      ...verdict,
    };
  } finally {
    for (const { child } of places) child.kill("SIGKILL");
  }
};

const countKills = (schedule: readonly Act[]): ChaosReport["killed"] => {
  const roles = schedule.flatMap((act) => (act.kind === "kill" ? [act.role] : []));
  return {
    workers: roles.filter((role) => role === "worker").length,
    producers: roles.filter((role) => role === "producer").length,
  };
};

const perform = async (
  act: Exclude<Act, { kind: "restart_database" }>,
  places: Place[],
  options: ChaosOptions,
  stage: Stage,
  background: Promise<void>[],
): Promise<void> => {
  const role = act.kind === "pause" ? "worker" : act.role;
  const place = places.find((one) => one.role === role && one.number === act.place);
  if (place === undefined) return;
  if (act.kind === "kill") {
    await kill(place);
    Object.assign(place, occupant(place, options, stage));
    return;
  }
  const { child } = place;
  child.kill("SIGSTOP");
  background.push(sleep(act.forMs).then(() => void child.kill("SIGCONT")));
};

/** The supervisor of the embedded server starts it again on the same socket. */
const restart = async (server: EmbeddedPostgres, how: ChaosOptions["restart"]): Promise<void> => {
  const before = server.pid;
  process.kill(before, how === "fast" ? "SIGINT" : "SIGQUIT");
  while (server.pid === before) await sleep(20);
};

/** How many messages are left when nothing waits, or when it is too late. */
const drained = async (db: Db, deadline: number): Promise<number> => {
  for (;;) {
    const { rows } = await db.query<{ left: number }>("select count(*)::int as left from outbox_message");
    const left = rows[0]?.left ?? Number.NaN;
    if (left === 0 || performance.now() > deadline) return left;
    await sleep(50);
  }
};

const readBooks = async (db: Db): Promise<Omit<Books, "left">> => {
  const committed = await db.query<{ kind: ChaosKind; tenantId: string; n: number }>(
    `select kind, tenant_id as "tenantId", n from chaos_key`,
  );
  const dead = await db.query<{ kind: ChaosKind; tenantId: string; payload: string }>(
    `select kind, tenant_id as "tenantId", payload from outbox_dead`,
  );
  const effects = await db.query<{ tenantId: string; number: number }>(
    `select tenant_id as "tenantId", number from chaos_effect order by id`,
  );
  return {
    committed: committed.rows,
    dead: dead.rows.map(({ kind, tenantId, payload }) => ({
      kind,
      tenantId,
      number: numberOfPayload(payload),
    })),
    effects: effects.rows,
  };
};
