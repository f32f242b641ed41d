import type { Config } from "../config/schema.ts";
import { countLiveWorkers } from "../db/instances.ts";
import { migrationsDir, readMigrations } from "../db/migration.ts";
import type { Db } from "../db/pool.ts";
import { createHealth, type Health } from "../http/health.ts";
import { type QueueKind, queueSettings } from "../outbox/queue.ts";
import { readDepth } from "../outbox/store.ts";

export interface AppHealthDeps {
  readonly config: Pick<Config, "outbox" | "instance_lease_secs">;
  readonly db: Db;
  readonly isDraining: () => boolean;
  readonly policyLoaded: () => boolean;
  /** Queues some worker has a handler for; the others wait on purpose. */
  readonly served: readonly QueueKind[];
}

const workerSilenceSecs = 60;
const oldUsageDeadSecs = 3_600;
const oldPendingSecs = 300;

/** Less than the second a check may take. */
const patienceMs = 900;

/** False when the answer takes longer than that. */
const inTime = async (answer: Promise<boolean>): Promise<boolean> => {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, patienceMs, false);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
};

/** Readiness and the degradations of ops.md §4. */
export const createAppHealth = (deps: AppHealthDeps): Health => {
  const { config, db, isDraining, policyLoaded } = deps;
  const health = createHealth();
  const ping = async (): Promise<null> => {
    await db.query("select 1");
    return null;
  };
  health.registerReadiness("database", ping, { failures: 2 });
  // A database that refuses or is slow is the other check's matter, which tolerates one miss.
  health.registerReadiness("migrations", async () =>
    (await inTime(isBehind(db).catch(() => false))) ? "schema behind" : null,
  );
  health.registerReadiness("draining", () => (isDraining() ? "draining" : null));
  health.registerReadiness("policy", () => (policyLoaded() ? null : "not loaded yet"), {
    informational: true,
  });
  const queues = queueSettings(config.outbox);
  const depths = () =>
    readDepth(
      db,
      deps.served.map((kind) => queues[kind].name),
    );
  const usageDead = async () => (await depths()).find((depth) => depth.queue === queues.usage.name);
  health.registerDegradation("usage_dead_letters", async () =>
    Number((await usageDead())?.dead ?? 0) > 0 ? "usage outbox has pending dead letters" : null,
  );
  health.registerDegradation("usage_dead_letter_age", async () => {
    const age = Math.floor((await usageDead())?.deadOldestAgeSecs ?? 0);
    return age > oldUsageDeadSecs ? `oldest usage dead letter is ${age} seconds old` : null;
  });
  health.registerDegradation("outbox_age", async () => {
    const late = (await depths()).filter((depth) => Number(depth.oldestAgeSecs) > oldPendingSecs);
    return late.length === 0 ? null : `events wait too long in ${late.map(({ queue }) => queue).join(", ")}`;
  });
  health.registerDegradation("workers", async () =>
    (await countLiveWorkers(db, Math.max(workerSilenceSecs, config.instance_lease_secs))) === 0
      ? "no live worker instance"
      : null,
  );
  return health;
};

// The files do not change under a running program.
let newest: Promise<number> | undefined;

/** A database restored from an older state is behind without any restart of this process. */
const isBehind = async (db: Db): Promise<boolean> => {
  newest ??= readMigrations(migrationsDir).then((files) => files.at(-1)?.version ?? 0);
  const { rows } = await db.query<{ version: number | null }>(
    "select max(version)::int as version from schema_migrations",
  );
  return (rows[0]?.version ?? 0) < (await newest);
};
