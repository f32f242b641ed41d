import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callApi, eventually } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../support/proxy.ts";
import { openStream } from "../support/stream.ts";
import { createGround, type Ground, newChat, send, turnStatus } from "./kill-support.ts";

let ground: Ground;
let proxy: DatabaseProxy;
let server: ServerProcess;
beforeEach(async () => {
  ground = await createGround();
  proxy = await startDatabaseProxy(ground.database.url);
  server = await startServerProcess({ databaseUrl: proxy.url, simulatorPort: ground.simulator.port });
});
afterEach(async () => {
  await server.kill();
  await proxy.close();
  await ground.clear();
});

/** Cuts the connections of the server while one of them waits for a lock of the test's. */
const cutWhileWaiting = async (begin: () => Promise<unknown>): Promise<void> => {
  const client = new pg.Client({ connectionString: ground.database.url });
  await client.connect();
  await client.query("begin");
  await client.query("select from quota_usage for update");
  try {
    await begin();
    await eventually(async () => {
      const { rowCount } = await ground.database.db.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      return rowCount > 0;
    });
    proxy.cutOpen();
  } finally {
    await client.query("rollback");
    await client.end();
  }
};

describe("a database connection lost in the middle of a statement (turns.md §10.3, §13)", () => {
  test("in transaction 2: it is run again, charged once, and nobody else notices", async () => {
    const bystanders = (await callApi(`${server.base}/chats`, "POST", { caller: callers.bob, body: {} })).body
      .id;
    ground.simulator.enqueue({ events: [{ text: "part" }, { wait_for: "bystander" }] });
    const bystander = await openStream(`${server.base}/chats/${bystanders}/messages:stream`, {
      headers: { authorization: `Bearer ${callers.bob.token}` },
      body: { content: "hi" },
    });
    await bystander.until("delta");
    const chatId = await newChat(server);
    const requestId = randomUUID();
    ground.simulator.enqueue({ events: [{ text: "answer" }, { wait_for: "end" }] });
    const stream = await send(server, chatId, requestId);
    await stream.until("delta");
    await cutWhileWaiting(async () => ground.simulator.open("end"));
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    ground.simulator.open("bystander");
    expect((await bystander.rest()).at(-1)?.event).toBe("done");
    expect(server.logs.filter((line) => line["level"] === "critical")).toEqual([]);
    const { rows } = await ground.database.db.query<{ calls: number; reserved: bigint }>(
      `select calls, reserved_credits_micro as reserved from quota_usage
       where user_id = $1 and period_type = 'daily'`,
      [callers.ann.userId],
    );
    expect(rows).toEqual([{ calls: 1, reserved: 0n }]);
    expect(await server.stop()).toBe(0);
  });

  test("in transaction 1: refused with 503, nothing stays, the same request may come again", async () => {
    const chatId = await newChat(server);
    await (await send(server, chatId)).rest();
    const requestId = randomUUID();
    let sent: ReturnType<typeof send> | undefined;
    await cutWhileWaiting(async () => {
      sent = send(server, chatId, requestId);
    });
    const refused = await sent;
    expect(refused?.status).toBe(503);
    expect(await refused?.problem()).toMatchObject({ code: "service_unavailable" });
    expect(await turnStatus(server, chatId, requestId)).toMatchObject({ code: "turn_not_found" });
    expect((await (await send(server, chatId, requestId)).rest()).at(-1)?.event).toBe("done");
  });
});
