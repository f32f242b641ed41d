import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../../server/test/support/app.ts";
import { callers } from "../../server/test/support/config.ts";
import { ApiError, isInProgress } from "../src/index.ts";
import { type FaultProxy, startFaultProxy } from "./faults.ts";
import { type ClientApp, clientAt, eventsOf, startClientApp } from "./support.ts";

let app: ClientApp;
beforeAll(async () => {
  app = await startClientApp();
});
afterAll(() => app.close());

const proxied = async (
  faults: Parameters<typeof startFaultProxy>[1][],
  run: (proxy: FaultProxy) => Promise<void>,
): Promise<void> => {
  const proxy = await startFaultProxy(app.origin, ...faults);
  try {
    await run(proxy);
  } finally {
    await proxy.close();
  }
};

const turnsOf = async (chatId: string): Promise<number> =>
  (await app.db.query("select from chat_turns where chat_id = $1", [chatId])).rowCount;

let lose: () => void = () => {};

/** A client whose calls that begin a turn go by the proxy, all others straight; `lose` cuts the proxy. */
const throughOnce = (proxy: FaultProxy): ReturnType<typeof clientAt> => {
  lose = () => void proxy.close();
  return clientAt(app.origin, {
    fetch: (input, init) => {
      const url = new URL(String(input));
      if (init?.method !== "GET") url.host = new URL(proxy.origin).host;
      return fetch(url, init);
    },
  });
};

const gateway = (status: number): Response => new Response("<html>", { status });

describe("three ends a user must be able to tell apart", () => {
  test("lost, and what became of it is not known", async () => {
    const chat = await app.createChat();
    // The status cannot be asked either.
    await proxied([{ request: 0 }], async ({ origin }) => {
      const turn = clientAt(origin, { recoverForMs: 200 }).send(chat, { content: "hi" });
      expect((await eventsOf(turn)).map(({ type }) => type)).toEqual(["interrupted"]);
      expect(await turn.result()).toMatchObject({
        state: "uncertain",
        reason: "unreachable",
        requestId: turn.requestId,
        cause: { code: "connection_failed" },
      });
    });
    expect(await turnsOf(chat)).toBe(0);
  });

  test("already in progress: another answer of the chat, or the answer to this very message", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "half" }, { wait_for: "progress" }] });
    const turn = app.client.send(chat, { content: "hi" });
    for await (const event of turn) if (event.type === "delta") break;
    const refused = async (message: { content: string; request_id?: string }): Promise<ApiError> => {
      const again = app.client.send(chat, message);
      await expect(eventsOf(again)).rejects.toBeInstanceOf(ApiError);
      return again.result().then(
        () => expect.unreachable(),
        (error) => error,
      );
    };
    const other = await refused({ content: "another" });
    expect([other.code, isInProgress(other)]).toEqual(["generation_in_progress", true]);
    const same = await refused({ content: "hi", request_id: turn.requestId });
    expect([same.code, isInProgress(same)]).toEqual(["request_id_conflict", true]);
    expect(same.location).toBe(`/v1/chats/${chat}/turns/${turn.requestId}`);
    app.simulator.open("progress");
    expect(await turn.result()).toMatchObject({ state: "completed" });
  });

  test("recovered: sent again by the user, it is played from the store", async () => {
    const chat = await app.createChat();
    const first = app.client.send(chat, { content: "hi" });
    const result = await first.result();
    const again = app.client.send(chat, { content: "hi", request_id: first.requestId });
    expect(await again.result()).toMatchObject({ ...result, done: {}, recovered: "replayed" });
    expect(await turnsOf(chat)).toBe(1);
    const ended = app.client.send(chat, { content: "hi!", request_id: first.requestId }).result();
    await expect(ended).rejects.toMatchObject({ code: "idempotency_mismatch" });
  });

  test("a conflict with a turn that ended is not in progress", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [], error: { code: "server_error", message: "no" } });
    const first = app.client.send(chat, { content: "hi" });
    expect(await first.result()).toMatchObject({ state: "failed" });
    const again = app.client.send(chat, { content: "hi", request_id: first.requestId }).result();
    const error = await again.catch((reason) => reason);
    expect([error.code, isInProgress(error)]).toEqual(["request_id_conflict", false]);
  });
});

describe("a stream that breaks", () => {
  test("after the answer was stored ends with the stored answer", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "one " }, { text: "two" }] });
    await proxied([{ silentAfter: 60 }, {}], async ({ origin }) => {
      const turn = clientAt(origin, { silenceMs: 300 }).send(chat, { content: "hi" });
      const events = await eventsOf(turn);
      expect(events.map(({ type }) => type)).toContain("interrupted");
      expect(turn.text).toBe("one two");
      expect(await turn.result()).toMatchObject({ state: "completed", text: "one two", recovered: "stored" });
    });
  });

  test("in the middle ends as cancelled, with the text the server kept", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: "broken" }, { text: " more" }] });
    const turn = throughOnce(await startFaultProxy(app.origin)).send(chat, { content: "hi" });
    for await (const event of turn) if (event.type === "delta") lose();
    expect(await turn.result()).toMatchObject({
      state: "cancelled",
      messageId: turn.messageId,
      text: "some",
      recovered: "stored",
    });
    app.simulator.open("broken");
  });

  test("while the server keeps on is honestly uncertain, and may be looked at again", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "slow" }, { wait_for: "patience" }] });
    const impatient = clientAt(app.origin, { silenceMs: 300, recoverForMs: 200 });
    const turn = impatient.send(chat, { content: "hi" }, {});
    const result = await turn.result();
    // Silence made the client leave; then the server has cancelled, or is about to.
    expect(["uncertain", "cancelled"]).toContain(result.state);
    app.simulator.open("patience");
    await eventually(async () => (await app.client.turns.status(chat, turn.requestId)).state !== "running");
    expect(await app.client.turns.resume(chat, turn.requestId).result()).toMatchObject({
      state: "cancelled",
      text: "slow",
      recovered: "stored",
    });
  });

  test("is no trouble when it is only slow", async () => {
    const chat = await app.createChat();
    await proxied([{ delayMs: 150 }], async ({ origin }) => {
      const turn = clientAt(origin).send(chat, { content: "hi" });
      const result = await turn.result();
      expect(result).toMatchObject({ state: "completed" });
      expect(result.recovered).toBeUndefined();
    });
  });
});

describe("an answer of somebody on the way", () => {
  const throughGateway = (status: number, forward: boolean) =>
    clientAt(app.origin, {
      recoverForMs: 300,
      fetch: async (input, init) => {
        if (!String(input).endsWith(":stream")) return fetch(input, init);
        if (forward) await (await fetch(input, init)).text();
        return gateway(status);
      },
    });

  test.each([403, 404, 413, 429])("status %i, the request not passed on: thrown at once", async (status) => {
    const chat = await app.createChat();
    const turn = throughGateway(status, false).send(chat, { content: "hi" });
    await expect(turn.result()).rejects.toMatchObject({ code: "unexpected_answer", status });
    expect(await turnsOf(chat)).toBe(0);
  });

  test.each([500, 502, 503, 504, 200])("status %i, the request lost: not found", async (status) => {
    const chat = await app.createChat();
    const result = await throughGateway(status, false).send(chat, { content: "hi" }).result();
    expect(result).toMatchObject({ state: "uncertain", reason: "not_found" });
    expect(await turnsOf(chat)).toBe(0);
  });

  test.each([500, 502, 503, 504, 200, 404])(
    "status %i, the request done: the stored answer",
    async (status) => {
      const chat = await app.createChat();
      const result = await throughGateway(status, true).send(chat, { content: "hi" }).result();
      expect(result).toMatchObject({ state: "completed", recovered: "stored" });
      expect(await turnsOf(chat)).toBe(1);
    },
  );

  const problemOf = (code: string, status: number): Response =>
    new Response(JSON.stringify({ code, status, detail: "" }), {
      status,
      headers: { "content-type": "application/problem+json", "retry-after": "5" },
    });

  test.each([
    ["internal_error", 500],
    ["service_unavailable", 503],
    ["shutting_down", 503],
  ])("%s of the server is thrown when nothing came to be, else looked through", async (code, status) => {
    for (const forward of [false, true]) {
      const chat = await app.createChat();
      const client = clientAt(app.origin, {
        fetch: async (input, init) => {
          if (!String(input).endsWith(":stream")) return fetch(input, init);
          if (forward) await (await fetch(input, init)).text();
          return problemOf(code, status);
        },
      });
      const result = client.send(chat, { content: "hi" }).result();
      if (forward) expect(await result).toMatchObject({ state: "completed" });
      else await expect(result).rejects.toMatchObject({ code, retryAfterSecs: 5 });
      expect(await turnsOf(chat)).toBe(forward ? 1 : 0);
    }
  });

  test("a send repeated by a proxy is followed, not refused", async () => {
    const chat = await app.createChat();
    const client = clientAt(app.origin, {
      fetch: async (input, init) => {
        if (!String(input).endsWith(":stream")) return fetch(input, init);
        const { headers, body = null } = init ?? {};
        app.simulator.enqueue({ events: [{ text: "once" }, { wait_for: "twice" }] });
        const first = await fetch(input, { method: "POST", headers: new Headers(headers), body });
        const second = await fetch(input, init);
        app.simulator.open("twice");
        await first.text();
        return second;
      },
    });
    expect(await client.send(chat, { content: "hi" }).result()).toMatchObject({
      state: "completed",
      text: "once",
      recovered: "stored",
    });
    expect(await turnsOf(chat)).toBe(1);
  });
});

describe("a retry or edit that breaks before it told the id of its turn", () => {
  const lostAnswer = (forward: boolean) =>
    clientAt(app.origin, {
      recoverForMs: 500,
      fetch: async (input, init) => {
        const mutation = init?.method === "PATCH" || String(input).includes("/retry");
        if (!mutation) return fetch(input, init);
        if (forward) await (await fetch(input, init)).text();
        throw new TypeError("fetch failed");
      },
    });
  const mutate = (client: ReturnType<typeof clientAt>, how: string, chat: string, requestId: string) =>
    how === "retry"
      ? client.turns.retry(chat, requestId)
      : client.turns.edit(chat, requestId, { content: "better" });

  test.each(["retry", "edit"])("a %s that was carried out is found by its place", async (how) => {
    const chat = await app.createChat();
    const { requestId } = await app.ask(chat, "hi");
    app.simulator.enqueue({ events: [{ text: "second answer" }] });
    const turn = mutate(lostAnswer(true), how, chat, requestId);
    expect(await turn.result()).toMatchObject({ state: "completed", text: "second answer" });
    expect(turn.requestId).not.toBe(requestId);
    expect(await turnsOf(chat)).toBe(2);
  });

  test.each(["retry", "edit"])("a %s that did not arrive is uncertain, without an id", async (how) => {
    const chat = await app.createChat();
    await app.ask(chat, "before");
    const { requestId } = await app.ask(chat, "hi");
    const turn = mutate(lostAnswer(false), how, chat, requestId);
    expect(await turn.result()).toMatchObject({
      state: "uncertain",
      reason: "not_found",
      requestId: undefined,
    });
    expect(await turnsOf(chat)).toBe(2);
  });

  test("a newer turn is not taken for it when the old one was not the latest", async () => {
    const chat = await app.createChat();
    const { requestId } = await app.ask(chat, "hi");
    await app.ask(chat, "after");
    const turn = mutate(lostAnswer(false), "retry", chat, requestId);
    expect(await turn.result()).toMatchObject({ state: "uncertain", requestId: undefined });
  });

  test("another's edit is not taken for one that did not arrive", async () => {
    const chat = await app.createChat();
    const { requestId } = await app.ask(chat, "hi");
    await app.client.turns.edit(chat, requestId, { content: "worse" }).result();
    const turn = mutate(lostAnswer(false), "edit", chat, requestId);
    expect(await turn.result()).toMatchObject({ state: "uncertain", requestId: undefined });
  });

  test("the turn before is not taken for it when the old one was deleted meanwhile", async () => {
    const chat = await app.createChat();
    await app.ask(chat, "before");
    const { requestId } = await app.ask(chat, "hi");
    await app.client.turns.remove(chat, requestId);
    const turn = mutate(lostAnswer(false), "retry", chat, requestId);
    expect(await turn.result()).toMatchObject({ state: "uncertain", requestId: undefined });
  });
});

describe("a turn that continues (turns.md §16.2)", () => {
  test("goes on after the break, with the rest and the end of the stream", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: "back" }, { text: " more" }] });
    const turn = throughOnce(await startFaultProxy(app.origin)).send(chat, {
      content: "hi",
      on_disconnect: "continue",
    });
    const types: string[] = [];
    for await (const { type } of turn) {
      types.push(type);
      if (type === "delta" && turn.text === "some") lose();
      if (type === "resumed") app.simulator.open("back");
    }
    expect(types).toEqual(["stream_started", "delta", "interrupted", "resumed", "delta", "done"]);
    expect(await turn.result()).toMatchObject({
      state: "completed",
      text: "some more",
      done: { effective_model: "standard" },
      recovered: "resumed",
    });
  });

  test("is followed by others from its first event, however many", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: "all" }, { text: " more" }] });
    const turn = app.client.send(chat, { content: "hi", on_disconnect: "continue" });
    for await (const { type } of turn) if (type === "delta") break;
    const others = [1, 2].map(() => clientAt(app.origin).turns.resume(chat, turn.requestId));
    for (const other of others) for await (const { type } of other) if (type === "delta") break;
    app.simulator.open("all");
    for (const other of others) {
      expect((await eventsOf(other)).map(({ type }) => type)).toEqual([
        "stream_started",
        "delta",
        "delta",
        "done",
      ]);
      expect(await other.result()).toMatchObject({ state: "completed", text: "some more" });
    }
    expect(await turn.result()).toMatchObject({ state: "completed", text: "some more" });
    expect(await turnsOf(chat)).toBe(1);
  });

  test("outlives a retry or edit whose stream broke", async () => {
    const chat = await app.createChat();
    let { requestId } = await app.ask(chat, "hi");
    for (const how of ["retry", "edit"]) {
      const client = throughOnce(await startFaultProxy(app.origin));
      app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: how }, { text: " more" }] });
      const turn =
        how === "retry"
          ? client.turns.retry(chat, requestId, { on_disconnect: "continue" })
          : client.turns.edit(chat, requestId, { content: "better", on_disconnect: "continue" });
      for await (const { type } of turn) {
        if (type === "delta" && turn.text === "some") lose();
        if (type === "resumed") app.simulator.open(how);
      }
      const result = await turn.result();
      expect(result).toMatchObject({ state: "completed", text: "some more", recovered: "resumed" });
      requestId = result.requestId ?? "";
    }
  });
});

describe("readers and signals", () => {
  test("any number of readers get all events, whenever they come", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "a" }, { wait_for: "readers" }, { text: "b" }] });
    const turn = app.client.send(chat, { content: "hi" });
    const first = eventsOf(turn);
    for await (const event of turn) if (event.type === "delta") break;
    const second = eventsOf(turn);
    app.simulator.open("readers");
    await turn.result();
    const third = await eventsOf(turn);
    expect(third.map(({ type }) => type)).toEqual(["stream_started", "delta", "delta", "done"]);
    expect([await first, await second]).toEqual([third, third]);
  });

  test("an aborted signal ends loop and result with its reason, and the answer on the server", async () => {
    const chat = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "a" }, { wait_for: "aborted" }] });
    const abort = new AbortController();
    const turn = app.client.send(chat, { content: "hi" }, { signal: abort.signal });
    const reading = eventsOf(turn);
    reading.catch(() => {});
    for await (const event of turn) if (event.type === "delta") break;
    abort.abort("enough");
    await expect(reading).rejects.toBe("enough");
    await expect(turn.result()).rejects.toBe("enough");
    await eventually(async () => (await app.client.turns.status(chat, turn.requestId)).state === "cancelled");
    app.simulator.open("aborted");
  });

  test("a signal that was aborted before sends nothing, one aborted during recovery ends it", async () => {
    const chat = await app.createChat();
    const early = app.client.send(chat, { content: "hi" }, { signal: AbortSignal.abort("early") });
    await expect(early.result()).rejects.toBe("early");
    expect(await turnsOf(chat)).toBe(0);
    await proxied([{ request: 0 }], async ({ origin }) => {
      const abort = new AbortController();
      const turn = clientAt(origin).send(chat, { content: "hi" }, { signal: abort.signal });
      for await (const event of turn) if (event.type === "interrupted") break;
      abort.abort("late");
      await expect(turn.result()).rejects.toBe("late");
    });
  });

  test("a turn that does not exist, or is another's, cannot be resumed", async () => {
    const chat = await app.createChat();
    const missing = app.client.turns.resume(chat, crypto.randomUUID());
    await expect(missing.result()).rejects.toMatchObject({ code: "turn_not_found" });
    const bob = clientAt(app.origin, { token: callers.bob.token });
    const { requestId } = await app.ask(chat, "hi");
    await expect(bob.turns.resume(chat, requestId).result()).rejects.toMatchObject({
      code: "chat_not_found",
    });
    expect(await app.client.turns.resume(chat, requestId).result()).toMatchObject({ state: "completed" });
  });

  test("an answer that was deleted before it could be read is said to be removed", async () => {
    const chat = await app.createChat();
    const { requestId } = await app.ask(chat, "hi");
    await app.client.turns.remove(chat, requestId);
    expect(await app.client.turns.resume(chat, requestId).result()).toMatchObject({
      state: "uncertain",
      reason: "removed",
    });
  });
});
