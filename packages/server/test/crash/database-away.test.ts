import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callApi, eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../support/proxy.ts";
import { textOf } from "../support/stream.ts";
import {
  ageLeases,
  ageRunningTurns,
  createGround,
  expectOneEvent,
  found,
  type Ground,
  newChat,
  send,
  turnStatus,
  waitingForLocks,
} from "./support.ts";
import { trapMessages } from "./trap.ts";

let ground: Ground;
let proxy: DatabaseProxy;
let server: ServerProcess;
let chatId: string;
const requestId = randomUUID();
beforeEach(async () => {
  ground = await createGround();
  proxy = await startDatabaseProxy(ground.databaseUrl);
  server = await ground.start({
    databaseUrl: proxy.url,
    config: { shutdown_grace_secs: 0, worker_stop_timeout_secs: 1 },
  });
  chatId = await newChat(server);
});
afterEach(async () => {
  await proxy.close();
  await ground.clear();
});

/** How many scans of the watchdog have ended. */
const scansOf = async ({ opsBase }: ServerProcess): Promise<number> => {
  const text = await (await fetch(`${opsBase}/metrics`)).text();
  return Number(/^mini_chat_orphan_scan_duration_seconds_count (\d+)$/m.exec(text)?.[1] ?? 0);
};

describe("the database goes away (turns.md §13)", () => {
  test("during the stream: the stream goes on, transaction 2 decides", async () => {
    ground.simulator.enqueue({
      events: [
        { text: "one" },
        { wait_for: "away" },
        { tool: "web_search", phase: "start" },
        { tool: "web_search", phase: "done" },
        { text: " two" },
        { wait_for: "back" },
        { text: " three" },
      ],
    });
    const stream = await send(server, chatId, { requestId, webSearch: true });
    await stream.until("delta");
    proxy.cut();
    ground.simulator.open("away");
    expect((await stream.until("delta")).data["content"]).toBe(" two");
    await server.logged((line) => line["msg"] === "tool counter write failed");
    proxy.restore();
    ground.simulator.open("back");
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    // What the counters of the row missed is settled from memory.
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed", web_search_calls: 1 });
    const { rows } = await ground.db.query("select web_search_calls as calls from quota_usage");
    expect(rows).toEqual([{ calls: 1 }, { calls: 1 }]);
  });

  test("at finalization, for less than the retries last: done", async () => {
    ground.simulator.enqueue({ events: [{ text: "answer" }, { wait_for: "end" }] });
    const stream = await send(server, chatId, { requestId });
    await stream.until("delta");
    proxy.cut();
    ground.simulator.open("end");
    await server.logged((line) => line["msg"] === "finalization is tried again");
    proxy.restore();
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
  });

  test("at finalization, for longer: nothing is announced, the watchdog ends the turn", async () => {
    ground.simulator.enqueue({ events: [{ text: "answer" }, { wait_for: "end" }] });
    const stream = await send(server, chatId, { requestId });
    await stream.until("delta");
    proxy.cut();
    ground.simulator.open("end");
    expect(await stream.rest()).toMatchObject([{ event: "error", data: { code: "finalization_failed" } }]);
    proxy.restore();
    await eventually(async () => (await turnStatus(server, chatId, requestId))["state"] === "running");
    await ageRunningTurns(ground.db);
    await eventually(
      async () => (await turnStatus(server, chatId, requestId))["error_code"] === "orphan_timeout",
    );
    await expectOneEvent(ground, {
      request_id: requestId,
      terminal_state: "failed",
      settlement_method: "estimated",
      usage: null,
    });
  });

  test("with the answer to transaction 2's commit: the committed end is announced, once", async () => {
    const open = await trapMessages(ground, "assistant");
    ground.simulator.enqueue({ events: [{ text: "answer" }] });
    const stream = await send(server, chatId, { requestId });
    await stream.until("delta");
    await waitingForLocks(ground.db);
    proxy.holdAnswers();
    await open();
    await found(ground.db, "select from chat_turns where state = 'completed'");
    proxy.cut();
    proxy.restore();
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    // The answer to a claim of the outbox may have been lost as well.
    await ageLeases(ground.db);
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
    const replay = await (await send(server, chatId, { requestId })).rest();
    expect(textOf(replay)).toBe("answer");
  });

  test("with the answer to transaction 1's commit: the turn that stands is run, not lost", async () => {
    const open = await trapMessages(ground, "user");
    const sent = send(server, chatId, { requestId });
    const backend = await waitingForLocks(ground.db);
    proxy.holdAnswers(backend);
    await open();
    await found(ground.db, "select from chat_turns where state = 'running'");
    proxy.cutOpen(backend);
    const stream = await sent;
    expect(stream.status).toBe(200);
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
  });

  test("with that answer and for longer: 503, and the turn is the watchdog's", async () => {
    const open = await trapMessages(ground, "user");
    const sent = send(server, chatId, { requestId });
    await waitingForLocks(ground.db);
    proxy.holdAnswers();
    await open();
    await found(ground.db, "select from chat_turns where state = 'running'");
    proxy.cut();
    const stream = await sent;
    expect(stream.status).toBe(503);
    proxy.restore();
    await ageRunningTurns(ground.db);
    await eventually(
      async () => (await turnStatus(server, chatId, requestId))["error_code"] === "orphan_timeout",
    );
    await expectOneEvent(ground, { request_id: requestId, settlement_method: "estimated" });
    expect((await send(server, chatId)).status).toBe(200);
  });

  test("for longer than the lease: turns of living processes go on", async () => {
    ground.simulator.enqueue({ events: [{ text: "one" }, { wait_for: "scanned" }, { text: " two" }] });
    const stream = await send(server, chatId, { requestId });
    await stream.until("delta");
    await eventually(async () => (await scansOf(server)) > 0);
    proxy.cut();
    const outage = "interval '40 seconds'";
    await ground.db.query(
      `update app_instances set started_at = started_at - ${outage}, last_seen_at = last_seen_at - ${outage}`,
    );
    await ground.db.query(`update chat_turns set last_progress_at = last_progress_at - ${outage}`);
    const before = await scansOf(server);
    proxy.restore();
    await found(ground.db, "select from app_instances where last_seen_at > now() - interval '30 seconds'");
    await eventually(async () => (await scansOf(server)) > before + 1);
    ground.simulator.open("scanned");
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
  });

  test("for requests: 503 with Retry-After, ready again when it is back", async () => {
    proxy.cut();
    const refused = await send(server, chatId);
    expect(refused.status).toBe(503);
    expect(refused.headers["retry-after"]).toBe("5");
    expect(await refused.problem()).toMatchObject({ code: "service_unavailable" });
    await eventually(async () => (await fetch(`${server.opsBase}/readyz`)).status === 503);
    expect((await fetch(`${server.opsBase}/healthz`)).status).toBe(200);
    proxy.restore();
    await eventually(async () => (await fetch(`${server.opsBase}/readyz`)).status === 200);
    expect((await callApi(`${server.base}/chats/${chatId}`, "GET")).status).toBe(200);
    expect(await server.stop()).toBe(0);
  });

  test.each([
    ["refuses", () => proxy.cut()],
    ["is silent", () => proxy.holdAnswers()],
  ])("for a stop, and %s: the process ends all the same, the turn is the watchdog's", async (_, away) => {
    ground.simulator.enqueue({ events: [{ text: "answer" }, { wait_for: "never" }] });
    const stream = await send(server, chatId, { requestId });
    await stream.until("delta");
    away();
    expect(await server.stop()).toBe(0);
    expect((await stream.rest()).map(({ event }) => event)).not.toContain("done");
    expect((await ground.db.query("select from chat_turns where state = 'running'")).rowCount).toBe(1);
  });
});
