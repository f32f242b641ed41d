import type { Config } from "./config/schema.ts";
import { type EmbeddedPostgres, startEmbedded } from "./db/embedded.ts";
import { migrate } from "./db/migrate.ts";
import { MigrationError } from "./db/migration.ts";
import { Db, isConnectionLost, type PoolOptions } from "./db/pool.ts";
import { requireSessionLocks } from "./db/session-locks.ts";
import { asDatabaseError } from "./db/unusable.ts";
import { invariant } from "./lib/assert.ts";
import { backoffMs } from "./lib/backoff.ts";
import { sleep } from "./lib/sleep.ts";
import type { Logger } from "./telemetry/log.ts";

/** The database of this process, reachable and at this program's schema version. */
export interface OpenDatabase {
  readonly db: Db;
  /** For LISTEN, advisory locks and migrations: never through a transaction-mode pooler. */
  readonly directUrl: string;
  close(): Promise<void>;
}

const connectForMs = 30_000;
const toleratedClockMs = 5_000;

/**
 * Steps 3–4 of the start (ops.md §3): brings up the embedded server or reaches the external one
 * within 30 s, migrates by mode, and warns when the clocks differ. Throws `EmbeddedError`,
 * `MigrationError` or `DatabaseError`.
 */
export const openDatabase = async (config: Config, logger: Logger): Promise<OpenDatabase> => {
  const { database } = config;
  const embedded =
    database.mode === "embedded"
      ? await startEmbedded({ dataDir: database.data_dir, logger, maxConnections: database.max_connections })
      : null;
  const url = embedded?.url ?? database.url?.reveal();
  invariant(url !== undefined, "an external database has its url");
  const directUrl = embedded?.url ?? database.direct_url?.reveal() ?? url;
  let db: Db | undefined;
  const close = async (): Promise<void> => {
    await db?.close();
    await embedded?.stop();
  };
  try {
    db = connectedBy(url, config, logger);
    await reach(db, embedded);
    if (embedded === null) await requireSessionLocks(directUrl);
    await migrate({ url: directUrl, mode: database.migrations, logger });
    await compareClocks(db, logger);
    return { db, directUrl, close };
  } catch (error) {
    await close().catch(() => {});
    throw error instanceof MigrationError ? error : asDatabaseError(error);
  }
};

const connectedBy = (url: string, config: Config, logger: Logger): Db =>
  new Db({
    ...poolOptions(config, url),
    onError: (error) => logger.warn({ err: error }, "idle database connection lost"),
  });

/** A pool with the limits of the configuration (ops.md §2.2). */
export const poolOptions = ({ database }: Pick<Config, "database">, url: string): PoolOptions => ({
  url,
  maxConnections: database.max_connections,
  acquireTimeoutMs: database.acquire_timeout_secs * 1_000,
  statementTimeoutMs: database.statement_timeout_ms,
  lockTimeoutMs: database.lock_timeout_ms,
  idleInTransactionTimeoutMs: database.idle_in_transaction_timeout_ms,
});

/** Waits for an external server that is still starting; an embedded one accepts already. */
const reach = async (db: Db, embedded: EmbeddedPostgres | null): Promise<void> => {
  const giveUpAt = performance.now() + connectForMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      await db.query("select 1");
      return;
    } catch (error) {
      const cause = (error as { options?: { cause?: unknown } }).options?.cause ?? error;
      const wait = backoffMs(attempt, { baseMs: 200, maxMs: 5_000 });
      if (embedded !== null || !isConnectionLost(cause) || performance.now() + wait > giveUpAt) throw cause;
      await sleep(wait);
    }
  }
};

const compareClocks = async (db: Db, logger: Logger): Promise<void> => {
  const { rows } = await db.query<{ ms: number }>("select extract(epoch from now())::float8 * 1000 as ms");
  const skewMs = Math.round((rows[0]?.ms ?? Date.now()) - Date.now());
  if (Math.abs(skewMs) > toleratedClockMs) {
    logger.warn({ skew_ms: skewMs }, "the database's clock differs from this machine's");
  }
};
