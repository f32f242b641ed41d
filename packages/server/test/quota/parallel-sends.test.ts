import { type Simulator, startSimulator } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { newChat, send } from "../crash/support.ts";
import { eventually } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import type { OpenedStream } from "../support/stream.ts";

/** quota.md §6.6 and §15.6 over HTTP: one user sends everywhere at once, to one process and to two. */

const sends = 200;
const room = 37;
/** Of `hello` to the standard model: 113 tokens in, 4 096 out at three credits. */
const reserve = 113n + 3n * 4_096n;

let database: TestDatabase;
let simulator: Simulator;
let over: AbortController;
let started: Promise<ServerProcess>[];
beforeAll(async () => {
  simulator = await startSimulator();
});
beforeEach(async () => {
  database = await createTestDatabase();
  over = new AbortController();
  started = [];
  simulator.reset();
  // Whoever is admitted stays until all are counted.
  simulator.setDefault({ gate: "counted" });
});
afterEach(async () => {
  over.abort();
  const servers = await Promise.allSettled(started);
  await Promise.all(servers.map((one) => (one.status === "fulfilled" ? one.value.kill() : undefined)));
  await database.drop();
});
afterAll(() => simulator.close());

const start = (dailyLimit: bigint): Promise<ServerProcess> => {
  const limits: Tree = { limit_daily_credits_micro: Number(dailyLimit) };
  const server = startServerProcess({
    databaseUrl: database.url,
    simulatorPort: simulator.port,
    config: { plugins: { model_policy: { static: { default_standard_limits: limits } } } },
    signal: over.signal,
  });
  started.push(server);
  return server;
};

/** One send into each of as many chats, over the servers in turn. */
const sendEverywhere = async (servers: readonly ServerProcess[]): Promise<OpenedStream[]> => {
  const serverOf = (at: number): ServerProcess => {
    const server = servers[at % servers.length];
    if (server === undefined) throw new Error("no server");
    return server;
  };
  const chats = await Promise.all(Array.from({ length: sends }, (_, at) => newChat(serverOf(at))));
  return Promise.all(chats.map((chatId, at) => send(serverOf(at), chatId)));
};

const count = async (table: string): Promise<number> =>
  (await database.db.query(`select from ${table}`)).rowCount;

const daily = async () =>
  (
    await database.db.query(
      `select spent_credits_micro as spent, reserved_credits_micro as reserved, calls
       from quota_usage
       where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
      [callers.ann.userId],
    )
  ).rows[0];

const expectRefusedForTokens = async (refused: readonly OpenedStream[]): Promise<void> => {
  for (const stream of refused) {
    expect(await stream.problem()).toMatchObject({
      status: 429,
      code: "quota_exceeded",
      quota_scope: "tokens",
    });
  }
};

const deadlocks = async (): Promise<bigint> => {
  await database.db.query("select pg_stat_force_next_flush()");
  const { rows } = await database.db.query<{ deadlocks: bigint }>(
    "select deadlocks from pg_stat_database where datname = current_database()",
  );
  return rows[0]?.deadlocks ?? -1n;
};

describe.each([1, 2])(
  `${sends} sends of one user at once, with room for ${room}, to %i process(es)`,
  (processes) => {
    test("admit exactly as many; the refused leave nothing, and all is given back in the end", async () => {
      // Almost room for one more.
      const limit = reserve * BigInt(room + 1) - 1n;
      const servers = await Promise.all(Array.from({ length: processes }, () => start(limit)));
      const streams = await sendEverywhere(servers);
      const admitted = streams.filter(({ status }) => status === 200);
      const refused = streams.filter(({ status }) => status !== 200);
      expect(admitted).toHaveLength(room);
      await expectRefusedForTokens(refused);

      expect(await daily()).toEqual({ spent: 0n, reserved: reserve * BigInt(room), calls: 0 });
      expect(await count("chat_turns")).toBe(room);
      expect(await count("messages")).toBe(room);
      expect(await count("quota_usage")).toBe(2);
      expect(await count("outbox_message")).toBe(0);

      simulator.open("counted");
      const ends = await Promise.all(admitted.map(async (stream) => (await stream.rest()).at(-1)?.event));
      expect(new Set(ends)).toEqual(new Set(["done"]));
      await eventually(async () => (await daily())?.["reserved"] === 0n);
      // 50 in and 12 out at the simulator's usual usage.
      expect(await daily()).toEqual({ spent: BigInt(room) * (50n + 36n), reserved: 0n, calls: room });
      expect(await deadlocks()).toBe(0n);
    });
  },
);

test("without room for a single one nothing is left at all", async () => {
  const server = await start(reserve - 1n);
  const streams = await sendEverywhere([server]);
  await expectRefusedForTokens(streams);
  for (const table of ["chat_turns", "messages", "quota_usage", "outbox_message"]) {
    expect([table, await count(table)]).toEqual([table, 0]);
  }
  const { rows } = await database.db.query("select from chats where updated_at <> created_at");
  expect(rows).toEqual([]);
  expect(simulator.requests()).toEqual([]);
});
