import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config/schema.ts";
import { poolOptions } from "../database.ts";
import { attachEmbedded, type EmbeddedPostgres, startEmbedded } from "../db/embedded.ts";
import { EmbeddedError } from "../db/embedded-account.ts";
import { migrate } from "../db/migrate.ts";
import { Db } from "../db/pool.ts";
import { AppError } from "../errors.ts";
import { invariant } from "../lib/assert.ts";

export interface OperatorDatabase {
  readonly db: Db;
  close(): Promise<void>;
}

/** An operator's commands follow each other: one connection works, one more never hurts. */
const maxConnections = 2;

/**
 * The database for a command, whether or not a server uses it: an embedded one that runs is joined, one
 * that does not is started for as long as the command takes. Changes no schema: throws `MigrationError`
 * when it is behind, `EmbeddedError` or the connection's error when it cannot be reached.
 */
export const openOperatorDatabase = async (config: Config): Promise<OperatorDatabase> => {
  const { database } = config;
  const joined = database.mode === "embedded" ? await attachEmbedded(database.data_dir) : null;
  const started =
    database.mode === "embedded" && joined === null ? await startExisting(database.data_dir) : null;
  const url = joined ?? started?.url ?? database.url?.reveal();
  invariant(url !== undefined, "an external database has its url");
  const db = new Db({
    ...poolOptions(config, url),
    maxConnections,
    applicationName: "mini-chat outbox",
  });
  const close = async (): Promise<void> => {
    await db.close();
    await started?.stop();
  };
  try {
    await db.query("select 1").catch((error: unknown) => {
      throw error instanceof AppError ? (error.options.cause ?? error) : error;
    });
    const direct = joined ?? started?.url ?? database.direct_url?.reveal() ?? url;
    await migrate({ url: direct, mode: database.migrations === "off" ? "off" : "check" });
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
  return { db, close };
};

/** A look at the wrong place must not leave a new database there. */
const startExisting = (dataDir: string): Promise<EmbeddedPostgres> => {
  if (existsSync(join(dataDir, "cluster"))) return startEmbedded({ dataDir });
  throw new EmbeddedError(
    `there is no database in ${dataDir}; --config names the configuration of the server`,
  );
};
