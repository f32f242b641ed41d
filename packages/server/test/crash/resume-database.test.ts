import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { callers } from "../support/config.ts";
import type { ServerProcess } from "../support/process.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../support/proxy.ts";
import { type OpenedStream, openStream, textOf, type WireEvent } from "../support/stream.ts";
import {
  createGround,
  expectOneEvent,
  found,
  type Ground,
  holdLock,
  newChat,
  waitingForLocks,
} from "./support.ts";

let ground: Ground;
let proxy: DatabaseProxy;
let server: ServerProcess;
let chatId: string;
let requestId: string;
beforeEach(async () => {
  ground = await createGround();
  proxy = await startDatabaseProxy(ground.databaseUrl);
  server = await ground.start({
    databaseUrl: proxy.url,
    config: { shutdown_grace_secs: 0, worker_stop_timeout_secs: 1 },
  });
  chatId = await newChat(server);
  requestId = randomUUID();
});
afterEach(async () => {
  await proxy.close();
  await ground.clear();
});

const headers = { authorization: `Bearer ${callers.ann.token}` };

const begin = (scenario: Scenario): Promise<OpenedStream> => {
  ground.simulator.enqueue(scenario);
  return openStream(`${server.base}/chats/${chatId}/messages:stream`, {
    headers,
    body: { content: "hi", request_id: requestId, on_disconnect: "continue" },
  });
};

const resume = (): Promise<OpenedStream> =>
  openStream(`${server.base}/chats/${chatId}/turns/${requestId}/stream`, { method: "GET", headers });

const logNotWritten = (line: Record<string, unknown>): boolean =>
  line["msg"] === "turn log not written, tried again";

/** The rest of a stream whose first `seen` events were read: without a gap, ended well, and as logged. */
const expectWhole = async (rest: readonly WireEvent[], seen: number, text: string): Promise<void> => {
  expect(rest.map(({ id }) => id)).toEqual(rest.map((_, at) => String(seen + at)));
  expect(rest.at(-1)?.event).toBe("done");
  expect(textOf(await (await resume()).rest())).toBe(text);
  const { rows } = await ground.db.query("select content from messages where role = 'assistant'");
  expect(rows).toEqual([{ content: text }]);
  await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
};

describe("the database goes away under a turn with a log (turns.md §13, §16.2)", () => {
  test("during the stream: nothing is shown meanwhile, and everything afterwards, in the log as well", async () => {
    const stream = await begin({
      events: [
        { text: "one" },
        { wait_for: "away" },
        { text: " two" },
        { wait_for: "back" },
        { text: " three" },
      ],
    });
    await stream.until("delta");
    proxy.cut();
    ground.simulator.open("away");
    await server.logged(logNotWritten);
    expect(stream.raw()).not.toContain("two");
    proxy.restore();
    const two = await stream.until("delta");
    expect(two).toMatchObject({ id: "2", data: { content: " two" } });
    ground.simulator.open("back");
    await expectWhole(await stream.rest(), 3, "one two three");
  });

  test("until the answer is complete: transaction 2 writes what the log lacks", async () => {
    const stream = await begin({ events: [{ text: "one" }, { wait_for: "away" }, { text: " two" }] });
    await stream.until("delta");
    proxy.cut();
    ground.simulator.open("away");
    await server.logged((line) => line["msg"] === "finalization is tried again");
    proxy.restore();
    await expectWhole(await stream.rest(), 2, "one two");
  });

  test("with the answer to an append: what it wrote is not written twice", async () => {
    const stream = await begin({
      events: [
        { text: "one" },
        { wait_for: "lost" },
        { text: " two" },
        { wait_for: "end" },
        { text: " three" },
      ],
    });
    await stream.until("delta");
    // The append waits for the lock until its answer can be lost.
    const release = await holdLock(ground.databaseUrl, "lock table turn_events in share mode");
    ground.simulator.open("lost");
    const backend = await waitingForLocks(ground.db);
    proxy.holdAnswers(backend);
    await release();
    await found(ground.db, "select from turn_events where seq = 2");
    proxy.cutOpen(backend);
    await server.logged(logNotWritten);
    expect(await stream.until("delta")).toMatchObject({ id: "2", data: { content: " two" } });
    ground.simulator.open("end");
    await expectWhole(await stream.rest(), 3, "one two three");
  });

  test("a reader waits until it is back", async () => {
    const stream = await begin({ events: [{ text: "one" }, { wait_for: "away" }, { text: " two" }] });
    await stream.until("delta");
    const reader = await resume();
    await reader.until("delta");
    proxy.cut();
    await server.logged((line) => line["msg"] === "turn log not read, tried again");
    proxy.restore();
    ground.simulator.open("away");
    expect(textOf(await reader.rest())).toBe(" two");
    await expectWhole(await stream.rest(), 2, "one two");
  });
});
