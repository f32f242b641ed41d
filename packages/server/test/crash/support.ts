import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import pg from "pg";
import { expect } from "vitest";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { callApi, eventually } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import { createTestDatabase } from "../support/database.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { type OpenedStream, openStream } from "../support/stream.ts";
import { type Books, readBooks, usageQueueIsEmpty } from "./books.ts";

export interface StartOptions {
  /** Laid over the configuration of these tests. */
  readonly config?: Tree;
  /** Default: the database itself; a test puts something in between. */
  readonly databaseUrl?: string;
}

/** A database and a provider that outlive the server processes of a test. */
export interface Ground {
  readonly databaseUrl: string;
  readonly db: Db;
  readonly simulator: Simulator;
  start(options?: StartOptions): Promise<ServerProcess>;
  /** As `readBooks`, after the outbox of usage events has run empty. */
  books(): Promise<Books>;
  /** Kills every process it started, ready or not, then removes everything. */
  clear(): Promise<void>;
}

/** The watchdog looks every second, and a silent process is dead after the shortest lease. */
const quickRecovery: Tree = {
  orphan_watchdog: { scan_interval_secs: 1 },
  instance_lease_secs: 15,
  database: { max_connections: 5 },
};

export const createGround = async (): Promise<Ground> => {
  const database = await createTestDatabase();
  const simulator = await startSimulator();
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-crash-"));
  const usageFile = join(dir, "usage.jsonl");
  const over = new AbortController();
  const started: Promise<ServerProcess>[] = [];
  const { db } = database;
  return {
    databaseUrl: database.url,
    db,
    simulator,
    start: ({ config = {}, databaseUrl = database.url } = {}) => {
      const usage = { plugins: { usage: { type: "file", path: usageFile } } };
      const server = startServerProcess({
        databaseUrl,
        simulatorPort: simulator.port,
        config: overlay(overlay(quickRecovery, usage), config) as Tree,
        signal: over.signal,
      });
      started.push(server);
      return server;
    },
    books: async () => {
      await eventually(() => usageQueueIsEmpty(db));
      return readBooks(db, usageFile);
    },
    clear: async () => {
      over.abort();
      await releaseLocks();
      const servers = await Promise.allSettled(started);
      await Promise.all(servers.map((one) => (one.status === "fulfilled" ? one.value.kill() : undefined)));
      await simulator.close();
      await database.drop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
};

type Served = Pick<ServerProcess, "base">;

const authorization = (caller: Caller) => ({ authorization: `Bearer ${caller.token}` });

export const newChat = async (
  server: Served,
  { caller = callers.ann, model }: { readonly caller?: Caller; readonly model?: string } = {},
): Promise<string> => {
  const body = model === undefined ? {} : { model };
  return (await callApi(`${server.base}/chats`, "POST", { caller, body })).body.id;
};

export interface Message {
  readonly requestId?: string;
  readonly content?: string;
  readonly webSearch?: boolean;
  readonly caller?: Caller;
}

/** Sends a message and resolves with the stream once its headers are in. */
export const send = (server: Served, chatId: string, message: Message = {}): Promise<OpenedStream> => {
  const { requestId = randomUUID(), content = "hello", webSearch = false, caller = callers.ann } = message;
  return openStream(`${server.base}/chats/${chatId}/messages:stream`, {
    headers: authorization(caller),
    body: { request_id: requestId, content, web_search: { enabled: webSearch } },
  });
};

export const turnStatus = async (
  server: Served,
  chatId: string,
  requestId: string,
): Promise<Record<string, unknown>> =>
  (await callApi(`${server.base}/chats/${chatId}/turns/${requestId}`, "GET")).body;

/** One usage event in all, no reserve left, and nothing charged that no event tells. */
export const expectOneEvent = async (ground: Ground, of: object): Promise<void> => {
  const { stored, due, events } = await ground.books();
  expect(events).toMatchObject([of]);
  expect(stored).toEqual(due);
};

/**
 * A process that has reported for an hour without a gap, and does for the minute to come: the silence of
 * others is their death.
 */
export const addWitness = async (db: Db): Promise<void> => {
  await db.query(
    `insert into app_instances (id, role, version, started_at, last_seen_at)
     values ($1, 'api', 'witness', now() - interval '1 hour', now() + interval '1 minute')`,
    [randomUUID()],
  );
};

/** Lets the time pass after which a dead process's turns are orphans and its outbox leases free. */
export const ageDeadProcesses = async (db: Db): Promise<void> => {
  await db.query("update app_instances set last_seen_at = now() - interval '1 hour'");
  await addWitness(db);
  await db.query(
    "update chat_turns set last_progress_at = now() - interval '40 seconds' where state = 'running'",
  );
  await ageLeases(db);
};

/** Lets the time pass after which an outbox lease is free that nobody knows of. */
export const ageLeases = async (db: Db): Promise<void> => {
  await db.query(
    "update outbox_partition set lease_until = now() - interval '1 second' where lease_token is not null",
  );
};

/** Lets a turn go without progress for longer than any may. */
export const ageRunningTurns = async (db: Db): Promise<void> => {
  await addWitness(db);
  await db.query(
    "update chat_turns set last_progress_at = now() - interval '301 seconds' where state = 'running'",
  );
};

export type Release = (end?: "rollback" | "commit") => Promise<void>;

const heldLocks = new Set<Release>();

/** A transaction of the test's own that holds what the statement locks until it is released; then it rolls back. */
export const holdLock = async (
  databaseUrl: string,
  statement: string,
  values: unknown[] = [],
): Promise<Release> => {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: "lock of the test" });
  const release: Release = async (end = "rollback") => {
    if (!heldLocks.delete(release)) return;
    await client.query(end).finally(() => client.end());
  };
  await client.connect();
  await client.query("begin");
  heldLocks.add(release);
  await client.query(statement, values);
  return release;
};

/** Releases what a failed test still holds. */
export const releaseLocks = async (): Promise<void> => {
  for (const release of heldLocks) await release();
};

/** Resolves as soon as a statement waits for a lock, with the process id of its session. */
export const waitingForLocks = async (db: Db): Promise<number> => {
  let pid = 0;
  await eventually(async () => {
    const { rows } = await db.query<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    pid = rows[0]?.pid ?? 0;
    return pid !== 0;
  });
  return pid;
};

/** Ends a session of a process that is dead, whatever it waits for; its transaction is rolled back. */
export const endSession = async (db: Db, pid: number): Promise<void> => {
  await db.query("select pg_terminate_backend($1)", [pid]);
  await eventually(
    async () => (await db.query("select from pg_stat_activity where pid = $1", [pid])).rowCount === 0,
  );
};

/** Resolves as soon as the query finds a row. */
export const found = (db: Db, query: string, values: unknown[] = []): Promise<void> =>
  eventually(async () => (await db.query(query, values)).rowCount > 0);
