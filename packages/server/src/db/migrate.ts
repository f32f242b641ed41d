import pg from "pg";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { lockSpace } from "./direct.ts";
import {
  type AppliedMigration,
  type Migration,
  MigrationError,
  migrationsDir,
  pendingMigrations,
  readMigrations,
  runsWithoutTransaction,
  splitStatements,
} from "./migration.ts";
import { sqlState } from "./pool.ts";

export type MigrationMode = "auto" | "check" | "off";

export interface MigrateOptions {
  /** Must reach the server itself, not a transaction-mode pooler: the lock belongs to the session. */
  readonly url: string;
  /** `auto` applies what is missing, `check` fails when something is, `off` does nothing. */
  readonly mode: MigrationMode;
  /** Default: the migrations of this program. */
  readonly dir?: string;
  /** Reports what would be applied, and applies nothing. */
  readonly dryRun?: boolean;
  /** How long to wait for another runner; default 60 s (ops.md §8). */
  readonly lockTimeoutMs?: number;
  readonly logger?: Logger;
}

export interface MigrationReport {
  /** Applied by this call, in order. */
  readonly applied: readonly Migration[];
  /** Not applied: a dry run. */
  readonly pending: readonly Migration[];
}

/** Advisory lock of the one runner (ops.md §8). */
const lock = { space: lockSpace, id: 100 } as const;

/**
 * Brings the schema to this program's version (data.md §7). Starting many processes at once is safe:
 * one applies, the others wait. Each file is one transaction together with its record, so a failure
 * leaves the schema at a whole version. Throws `MigrationError`.
 */
export const migrate = async (options: MigrateOptions): Promise<MigrationReport> => {
  if (options.mode === "off") return { applied: [], pending: [] };
  const files = await readMigrations(options.dir ?? migrationsDir);
  const client = new pg.Client({ connectionString: options.url, application_name: "mini-chat migrate" });
  // Losing the connection rejects the statement under way, which tells it all.
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query("set statement_timeout = 0");
    await client.query("set idle_in_transaction_session_timeout = 0");
    await requireServer(client);
    if (options.mode === "check" || options.dryRun === true) {
      const pending = pendingMigrations(files, await readApplied(client));
      if (options.dryRun !== true && pending.length > 0) {
        throw new MigrationError(
          "schema_behind",
          `the database lacks ${pending.length} of ${files.length} migrations; run mini-chat migrate`,
        );
      }
      return { applied: [], pending };
    }
    return { applied: await applyMissing(client, files, options), pending: [] };
  } finally {
    await client.end();
  }
};

const requireServer = async (client: pg.Client): Promise<void> => {
  const { rows } = await client.query<{ version: number }>(
    "select current_setting('server_version_num')::int as version",
  );
  const version = rows[0]?.version ?? 0;
  if (version < 150_000) {
    throw new MigrationError("unsupported_server", `PostgreSQL 15 or later is needed, this is ${version}`);
  }
};

const readApplied = async (client: pg.Client): Promise<AppliedMigration[]> => {
  const { rows: found } = await client.query<{ found: boolean }>(
    "select to_regclass('schema_migrations') is not null as found",
  );
  if (found[0]?.found !== true) return [];
  const { rows } = await client.query<AppliedMigration>(
    "select version, name, checksum from schema_migrations order by version",
  );
  return rows;
};

const applyMissing = async (
  client: pg.Client,
  files: readonly Migration[],
  options: MigrateOptions,
): Promise<Migration[]> => {
  const logger = options.logger ?? noLogger;
  await acquireLock(client, options.lockTimeoutMs ?? 60_000);
  try {
    await client.query(`
      create table if not exists schema_migrations (
        version int primary key,
        name text not null,
        checksum text not null,
        applied_at timestamptz not null default now(),
        duration_ms int not null
      )`);
    const missing = pendingMigrations(files, await readApplied(client));
    for (const migration of missing) {
      const durationMs = await apply(client, migration);
      logger.info(
        { migration: migration.version, name: migration.name, duration_ms: durationMs },
        "migration applied",
      );
    }
    return missing;
  } finally {
    // Ending the session would free it as well, but only once the server has noticed.
    await client.query("select pg_advisory_unlock($1, $2)", [lock.space, lock.id]).catch(() => {});
  }
};

const acquireLock = async (client: pg.Client, timeoutMs: number): Promise<void> => {
  await client.query(`set lock_timeout = ${Math.max(1, Math.round(timeoutMs))}`);
  try {
    await client.query("select pg_advisory_lock($1, $2)", [lock.space, lock.id]);
  } catch (error) {
    if (sqlState(error) !== "55P03") throw error;
    throw new MigrationError(
      "lock_timeout",
      `another process has been migrating for ${timeoutMs / 1000} s`,
      error,
    );
  }
  // Behind a transaction-mode pooler the next statement may run in another session (ops.md §8).
  const { rows } = await client.query<{ held: boolean }>(
    `
    select exists (
      select
      from pg_locks
      where locktype = 'advisory'
        and pid = pg_backend_pid()
        and classid = $1
        and objid = $2
        and granted
    ) as held`,
    [lock.space, lock.id],
  );
  if (rows[0]?.held !== true) {
    throw new MigrationError(
      "no_session_locks",
      "the connection does not keep session locks: set database.direct_url to bypass the pooler",
    );
  }
};

const apply = async (client: pg.Client, migration: Migration): Promise<number> => {
  const started = performance.now();
  const elapsed = (): number => Math.round(performance.now() - started);
  const record = (): Promise<unknown> =>
    client.query(
      "insert into schema_migrations (version, name, checksum, duration_ms) values ($1, $2, $3, $4)",
      [migration.version, migration.name, migration.checksum, elapsed()],
    );
  try {
    if (runsWithoutTransaction(migration)) {
      for (const statement of splitStatements(migration)) await client.query(statement);
      await record();
    } else {
      await client.query("begin");
      await client.query(migration.sql);
      await record();
      await client.query("commit");
    }
  } catch (error) {
    await client.query("rollback").catch(() => {});
    if (error instanceof MigrationError) throw error;
    throw new MigrationError("statement_failed", describeFailure(migration, error), error);
  }
  return elapsed();
};

const describeFailure = (migration: Migration, error: unknown): string => {
  const position = Number((error as { position?: unknown } | null)?.position);
  const line = position > 0 ? `, line ${migration.sql.slice(0, position).split("\n").length}` : "";
  const message = error instanceof Error ? error.message : String(error);
  return `migration ${migration.version} (${migration.name}${line}): ${message}`;
};
