import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callApi, eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import { type OpenedStream, openStream } from "../support/stream.ts";
import { ageDeadProcesses, createGround, type Ground, newChat, send, turnStatus } from "./support.ts";

let ground: Ground;
beforeEach(async () => {
  ground = await createGround();
});
afterEach(async () => {
  await ground.clear();
});

interface Running {
  readonly chatId: string;
  readonly requestId: string;
  readonly stream: OpenedStream;
}

/** Turns that have said something and wait at the gate. */
const runTurns = async (server: ServerProcess, count: number, gate: string): Promise<Running[]> => {
  ground.simulator.setDefault({ events: [{ text: "begun" }, { wait_for: gate }, { text: ", done" }] });
  return Promise.all(
    Array.from({ length: count }, async () => {
      const chatId = await newChat(server);
      const requestId = randomUUID();
      const stream = await send(server, chatId, { requestId });
      await stream.until("delta");
      return { chatId, requestId, stream };
    }),
  );
};

const lastOf = async ({ stream }: Running): Promise<unknown> => {
  const { event, data } = (await stream.rest()).at(-1) ?? {};
  return event === "error" ? `error ${String(data?.["code"])}` : event;
};

/** What no process that stopped may leave behind (ops.md §9). */
const expectNothingHeld = async (): Promise<void> => {
  const { db } = ground;
  for (const leftover of [
    "select from chat_turns where state = 'running'",
    "select from quota_usage where reserved_credits_micro <> 0",
    "select from outbox_partition where lease_token is not null",
    "select from app_instances",
    "select from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    "select from pg_stat_activity where datname = current_database() and application_name <> 'mini-chat test'",
  ]) {
    // The server sees the end of a session a moment after its process.
    await eventually(async () => (await db.query(leftover)).rowCount === 0);
  }
};

/** Sends into a chat that is busy, so that it can only be refused, until the refusal is the shutdown's. */
const untilRefusing = async (server: ServerProcess, busy: Running): Promise<OpenedStream> => {
  for (;;) {
    const refused = await send(server, busy.chatId);
    if (refused.status === 503) return refused;
    expect(refused.status).toBe(409);
  }
};

/** Resolves when the provider cannot send any more, because everything on the way to the client is full. */
const untilProviderWaits = async (): Promise<void> => {
  const sent = (): number => ground.simulator.requests().at(-1)?.deltasSent ?? 0;
  let before = 0;
  const stands = (): boolean => {
    const now = sent();
    const same = now > 0 && now === before;
    before = now;
    return same;
  };
  await expect.poll(stands, { interval: 300, timeout: 20_000 }).toBe(true);
};

describe("SIGTERM (turns.md §16.4, ops.md §9)", () => {
  test("under 100 streams: what can end does, the rest is cancelled, and nothing is left", async () => {
    const server = await ground.start({ config: { shutdown_grace_secs: 3 } });
    const ending = await runTurns(server, 50, "end");
    const lasting = await runTurns(server, 50, "never");
    const [busy] = lasting;
    if (busy === undefined) throw new Error("50 turns");
    const quietChat = await newChat(server);
    const exit = server.stop();

    const refused = await untilRefusing(server, busy);
    expect(refused.headers).toMatchObject({ "retry-after": "5", connection: "close" });
    expect(await refused.problem()).toMatchObject({ status: 503, code: "shutting_down" });
    expect((await send(server, quietChat)).status).toBe(503);
    const ready = await fetch(`${server.opsBase}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.json()).toMatchObject({ ready: false, checks: { draining: expect.anything() } });
    expect(await turnStatus(server, busy.chatId, busy.requestId)).toMatchObject({ state: "running" });
    const messages = await callApi(`${server.base}/chats/${busy.chatId}/messages`, "GET");
    expect(messages.body.items).toHaveLength(1);

    ground.simulator.open("end");
    expect(new Set(await Promise.all(ending.map(lastOf)))).toEqual(new Set(["done"]));
    expect(new Set(await Promise.all(lasting.map(lastOf)))).toEqual(new Set(["error cancelled"]));
    expect(await exit).toBe(0);

    await expectNothingHeld();
    const { rows } = await ground.db.query(
      `select state, cancel_reason, error_code, count(*)::int as turns
       from chat_turns
       group by 1, 2, 3
       order by 1`,
    );
    expect(rows).toEqual([
      { state: "cancelled", cancel_reason: "server_shutdown", error_code: null, turns: 50 },
      { state: "completed", cancel_reason: null, error_code: null, turns: 50 },
    ]);
    // What the stop left in the outbox is another process's to deliver.
    await ground.start();
    const { stored, due, events } = await ground.books();
    expect(events).toHaveLength(100);
    expect(stored).toEqual(due);
  });

  test("a cancelled turn keeps the text it had", async () => {
    const server = await ground.start({ config: { shutdown_grace_secs: 0 } });
    const [turn] = await runTurns(server, 1, "never");
    expect(await server.stop()).toBe(0);
    expect(turn && (await lastOf(turn))).toBe("error cancelled");
    const { rows } = await ground.db.query("select content from messages where role = 'assistant'");
    expect(rows).toEqual([{ content: "begun" }]);
  });

  test("without turns a stop waits for none of its time limits", async () => {
    const server = await ground.start({ config: { shutdown_grace_secs: 3_600 } });
    const idle = await openStream(`${server.base}/models`, { method: "GET" });
    expect(idle.status).toBe(401);
    expect(await server.stop()).toBe(0);
    await expectNothingHeld();
  });

  test("before the ready delay is over everything still works", async () => {
    const server = await ground.start({ config: { shutdown_ready_delay_secs: 3 } });
    const exit = server.stop();
    await eventually(async () => (await fetch(`${server.opsBase}/readyz`)).status === 503);
    const stream = await send(server, await newChat(server));
    expect(stream.status).toBe(200);
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    expect(await exit).toBe(0);
  });

  test("a client that does not read does not keep the process", async () => {
    const server = await ground.start({
      config: { shutdown_grace_secs: 0, streaming: { slow_client_timeout_secs: 60 } },
    });
    ground.simulator.enqueue({ repeat: { count: 1_000_000, bytes: 60_000, interval_ms: 1 } });
    const stream = await send(server, await newChat(server));
    stream.pause();
    await untilProviderWaits();
    expect(await server.stop()).toBe(0);
    await expectNothingHeld();
  });

  test.each<[NodeJS.Signals, NodeJS.Signals]>([
    ["SIGTERM", "SIGTERM"],
    ["SIGINT", "SIGTERM"],
    ["SIGHUP", "SIGHUP"],
  ])("%s with a %s right behind it drains like one", async (signal, echo) => {
    const server = await ground.start({ config: { shutdown_grace_secs: 3_600 } });
    const [turn] = await runTurns(server, 1, "gate");
    if (turn === undefined) throw new Error("one turn");
    const exit = server.stop(signal);
    void server.stop(echo);
    await untilRefusing(server, turn);
    ground.simulator.open("gate");
    expect(await lastOf(turn)).toBe("done");
    expect(await exit).toBe(0);
    await expectNothingHeld();
  });

  test("an error nobody caught ends the drain at once, and the process with 1", async () => {
    const directory = await mkdtemp(join(tmpdir(), "mini-chat-drain-"));
    const sink = join(directory, "sink.mjs");
    await writeFile(
      sink,
      "export default () => ({ publish: async () => void Promise.reject(new Error('nobody caught it')) });",
    );
    const server = await ground.start({
      config: {
        shutdown_grace_secs: 3_600,
        plugins: { usage: { type: "module", module: sink } },
      },
    });
    const [ending] = await runTurns(server, 1, "end");
    const [lasting] = await runTurns(server, 1, "never");
    if (ending === undefined || lasting === undefined) throw new Error("two turns");
    const exit = server.stop();
    await untilRefusing(server, lasting);
    ground.simulator.open("end");
    expect(await lastOf(ending)).toBe("done");
    expect(await lastOf(lasting)).toBe("error cancelled");
    expect(await exit).toBe(1);
    expect(server.logs.find(({ level }) => level === "critical")).toMatchObject({
      msg: "uncaught error",
      err: { message: "nobody caught it" },
    });
    await rm(directory, { recursive: true });
    await expectNothingHeld();
  });

  test("a second signal ends it at once with 1; its turns are the watchdog's", async () => {
    const server = await ground.start({ config: { shutdown_grace_secs: 3_600 } });
    const [turn] = await runTurns(server, 1, "never");
    if (turn === undefined) throw new Error("one turn");
    void server.stop();
    await untilRefusing(server, turn);
    expect(await server.insist()).toBe(1);
    expect((await ground.db.query("select from app_instances")).rowCount).toBe(0);
    await ageDeadProcesses(ground.db);
    const next = await ground.start();
    await eventually(
      async () => (await turnStatus(next, turn.chatId, turn.requestId))["error_code"] === "orphan_timeout",
    );
    const { stored, due, events } = await ground.books();
    expect(events).toHaveLength(1);
    expect(stored).toEqual(due);
  });
});
