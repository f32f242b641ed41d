import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import type { Tree } from "../../src/config/tree.ts";
import { callApi, eventually } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { type OpenedStream, openStream } from "../support/stream.ts";

/** A database and a provider that outlive the server processes of a test. */
export interface Ground {
  readonly database: TestDatabase;
  readonly simulator: Simulator;
  /** Usage events as published, one object per line. */
  usage(): { idempotency_key: string; event: Record<string, unknown> }[];
  start(config?: Tree): Promise<ServerProcess>;
  /** Kills every process still running, then removes everything. */
  clear(): Promise<void>;
}

export const createGround = async (): Promise<Ground> => {
  const database = await createTestDatabase();
  const simulator = await startSimulator();
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-crash-"));
  const usageFile = join(dir, "usage.jsonl");
  const started: ServerProcess[] = [];
  return {
    database,
    simulator,
    usage: () => {
      try {
        const lines = readFileSync(usageFile, "utf8")
          .split("\n")
          .filter((line) => line !== "");
        return lines.map((line) => JSON.parse(line));
      } catch {
        return [];
      }
    },
    start: async (config = {}) => {
      const process = await startServerProcess({
        databaseUrl: database.url,
        simulatorPort: simulator.port,
        config: {
          plugins: { usage: { type: "file", path: usageFile } },
          orphan_watchdog: { scan_interval_secs: 1 },
          instance_lease_secs: 15,
          ...config,
        },
      });
      started.push(process);
      return process;
    },
    clear: async () => {
      await Promise.all(started.map((process) => process.kill()));
      await simulator.close();
      await database.drop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
};

const headers = { authorization: `Bearer ${callers.ann.token}` };

export const newChat = async (server: ServerProcess): Promise<string> =>
  (await callApi(`${server.base}/chats`, "POST", { body: {} })).body.id;

/** Sends a message and resolves with the stream once its headers are in. */
export const send = (
  server: ServerProcess,
  chatId: string,
  requestId: string = randomUUID(),
  content = "hello",
): Promise<OpenedStream> =>
  openStream(`${server.base}/chats/${chatId}/messages:stream`, {
    headers,
    body: { request_id: requestId, content },
  });

export const turnStatus = async (
  server: ServerProcess,
  chatId: string,
  requestId: string,
): Promise<Record<string, unknown>> =>
  (await callApi(`${server.base}/chats/${chatId}/turns/${requestId}`, "GET")).body;

/** Lets the time pass after which a dead worker's partitions are free again (outbox.md §15). */
export const expireLeases = async ({ database }: Ground): Promise<void> => {
  await database.db.query(
    "update outbox_partition set lease_until = now() - interval '1 second' where lease_token is not null",
  );
};

/** What must hold when nothing runs: no reserve, and spent equals the published usage, once per key. */
export const settledBooks = async (
  ground: Ground,
): Promise<{ reserved: bigint; spent: bigint; published: bigint; events: number }> => {
  const { db } = ground.database;
  await eventually(async () => (await db.query("select from outbox_message")).rowCount === 0);
  const { rows } = await db.query<{ reserved: bigint; spent: bigint }>(
    `select coalesce(sum(reserved_credits_micro), 0)::bigint as reserved,
            coalesce(sum(spent_credits_micro), 0)::bigint as spent
     from quota_usage
     where period_type = 'daily' and bucket = 'total'`,
  );
  const byKey = new Map(ground.usage().map((line) => [line.idempotency_key, line.event]));
  const published = [...byKey.values()].reduce(
    (sum, event) => sum + BigInt(Number(event["actual_credits_micro"])),
    0n,
  );
  return { reserved: rows[0]?.reserved ?? -1n, spent: rows[0]?.spent ?? -1n, published, events: byKey.size };
};
