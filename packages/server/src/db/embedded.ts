import { existsSync } from "node:fs";
import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { startLoop } from "../lib/loop.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { EmbeddedError } from "./embedded-account.ts";
import { openCluster } from "./embedded-cluster.ts";
import { type DirectoryLock, lockDirectory } from "./embedded-lock.ts";
import {
  isServerOf,
  type RunningServer,
  runServer,
  type Settings,
  socketOf,
  stopServer,
} from "./embedded-server.ts";
import { sqlState } from "./pool.ts";

export interface EmbeddedOptions {
  /** Holds everything; made when absent, locked against every other process while in use. */
  readonly dataDir: string;
  readonly logger?: Logger;
  /** Connections the program will open at most (`database.max_connections`); 10 more are kept free. */
  readonly maxConnections?: number;
  /** How often to look whether the server lives; default 1 s. */
  readonly watchIntervalMs?: number;
  /** More server settings, e.g. `fsync: "off"` for tests. */
  readonly settings?: Settings;
}

export interface EmbeddedPostgres {
  /** Connection string of the program's database, as its owner. */
  readonly url: string;
  /** The same server as superuser, database `template1`. */
  readonly adminUrl: string;
  /** Process id of the server; another one after it died and was started again. */
  readonly pid: number;
  /** Whether a server left behind by a killed process was taken over. */
  readonly adopted: boolean;
  /** Shuts the server down and frees the data directory. Idempotent. */
  stop(): Promise<void>;
}

const owner = "mini_chat_owner";
const database = "mini_chat";

/**
 * Starts PostgreSQL from the npm package on this data directory and waits until it accepts
 * connections; takes over a server that outlived a killed process, and starts it again when it dies
 * under way. Works as root (the server then
 * runs as `nobody`) and as any other user. Throws `EmbeddedError` with the remedy in its text.
 */
export const startEmbedded = async (options: EmbeddedOptions): Promise<EmbeddedPostgres> => {
  const logger = options.logger ?? noLogger;
  const began = performance.now();
  const { dataDir, lock } = await openDirectory(options.dataDir);
  try {
    const fresh = !existsSync(join(dataDir, "cluster"));
    const cluster = await openCluster(dataDir);
    if (!cluster.dir.startsWith(dataDir)) {
      logger.warn({ cluster: cluster.dir }, "the data directory is out of reach of the database's account");
    }
    const settings: Settings = {
      max_connections: String(Math.max(100, (options.maxConnections ?? 0) + 10)),
      ...options.settings,
    };
    let server = await runServer(cluster, settings);
    await ensureDatabase(server);
    const { pid, adopted } = server;
    const durationMs = Math.round(performance.now() - began);
    logger.info({ pid, fresh, adopted, duration_ms: durationMs }, "embedded database ready");
    const watch = startLoop(
      async () => {
        if (isServerOf(server.pid, cluster.dir)) return;
        logger.error({ pid: server.pid }, "embedded database died; starting it again");
        server = await runServer(cluster, settings, server.socketDir);
      },
      {
        intervalMs: options.watchIntervalMs ?? 1000,
        onError: (err) => logger.error({ err }, "embedded database does not start"),
      },
    );
    const stop = async (): Promise<void> => {
      await watch.stop();
      await stopServer(server.pid, cluster.dir);
    };
    let stopped: Promise<void> | undefined;
    return {
      url: urlOf(server, owner, database),
      adminUrl: urlOf(server, "postgres", "template1"),
      get pid() {
        return server.pid;
      },
      adopted,
      stop: () => {
        stopped ??= stop().finally(lock.release);
        return stopped;
      },
    };
  } catch (error) {
    lock.release();
    throw asEmbeddedError(error);
  }
};

const openDirectory = async (given: string): Promise<{ dataDir: string; lock: DirectoryLock }> => {
  try {
    await mkdir(given, { recursive: true });
    const dataDir = await realpath(given);
    return { dataDir, lock: lockDirectory(join(dataDir, "lock")) };
  } catch (error) {
    throw asEmbeddedError(error);
  }
};

/** What the file system refuses is a matter of the directory; the server's own errors stay what they are. */
const asEmbeddedError = (error: unknown): unknown =>
  error instanceof Error && "syscall" in error
    ? new EmbeddedError(`database.data_dir cannot be used: ${error.message}`, { cause: error })
    : error;

/**
 * Connection string of the server another process runs on this data directory; null when none runs. It
 * ends with that process.
 */
export const attachEmbedded = async (dataDir: string): Promise<string | null> => {
  const dir = await realpath(join(dataDir, "cluster")).catch(() => null);
  const socketDir = dir === null ? null : socketOf(dir);
  return socketDir === null ? null : urlOf({ socketDir }, owner, database);
};

const urlOf = (server: Pick<RunningServer, "socketDir">, user: string, name: string): string =>
  `postgresql://${user}@localhost/${name}?host=${encodeURIComponent(server.socketDir)}`;

/** The program's database and its owner, who is no superuser; made by the first start. */
const ensureDatabase = async (server: RunningServer): Promise<void> => {
  try {
    await withClient(urlOf(server, owner, database), async (client) => {
      await client.query("select");
    });
  } catch (error) {
    const state = sqlState(error);
    if (state !== "3D000" && state !== "28000") throw error;
    await withClient(urlOf(server, "postgres", "template1"), createDatabase);
  }
};

/** Safe to run again after a crash half way. */
const createDatabase = async (client: pg.Client): Promise<void> => {
  const { rows } = await client.query<{ name: string }>(
    "select rolname as name from pg_roles where rolname = $1 union all select datname from pg_database where datname = $2",
    [owner, database],
  );
  const present = new Set(rows.map((row) => row.name));
  if (!present.has(owner)) await client.query(`create role ${owner} login`);
  // Renaming what initdb made is free; creating another one copies 7 MB.
  if (!present.has(database)) await client.query(`alter database postgres rename to ${database}`);
  await client.query(`alter database ${database} owner to ${owner}`);
};

const withClient = async (url: string, work: (client: pg.Client) => Promise<void>): Promise<void> => {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
};
