import { describe, expect, test } from "vitest";
import type { SendMessage } from "../src/index.ts";
import { done, frame, playScript, problem, type Script, started, stream, text } from "./script.ts";
import { clientAt, eventsOf, shownOf } from "./support.ts";

/** What no real server does on demand: the server here follows a script. */

const id = "6f1c2d3e-8a4b-4c5d-9e6f-7a8b9c0d1e2f";
const message: SendMessage = { content: "hi", request_id: id };
const continuing: SendMessage = { ...message, on_disconnect: "continue" };

const send = (script: Script, sent: SendMessage = message, recoverForMs = 500, silenceMs = 90_000) =>
  clientAt("http://server", { fetch: script.fetch, recoverForMs, silenceMs }).send("c", sent);

const status =
  (state: string, more: object = {}) =>
  (): Response =>
    Response.json({ request_id: id, state, updated_at: "2026-03-01T10:15:31Z", ...more });

const stored = (content: string) => (): Response =>
  Response.json({
    items: [{ id: "m", content }],
    page_info: { limit: 20, next_cursor: null, prev_cursor: null },
  });

describe("a stream that is resumed", () => {
  test("asks for what is behind the last event, and takes what comes again once", async () => {
    const script = playScript(
      () => stream(started(id, 0), text("a", 1), text("b", 2)),
      status("running"),
      () => stream(started(id), text("b", 2), text("c", 3), frame("tool", { phase: "start" }, 4), done(5)),
    );
    const turn = send(script, continuing);
    const events = await eventsOf(turn);
    expect(script.asked).toEqual([
      "POST /messages:stream",
      `GET /turns/${id}`,
      `GET /turns/${id}/stream?after=2`,
    ]);
    expect(events.map(({ type }) => type)).toEqual([
      "stream_started",
      "delta",
      "delta",
      "interrupted",
      "resumed",
      "delta",
      "tool",
      "done",
    ]);
    expect(await turn.result()).toMatchObject({ state: "completed", text: "abc", recovered: "resumed" });
  });

  test("takes an end that it had already asked for", async () => {
    const script = playScript(
      () => stream(text("a", 1), done(2)),
      status("done", { assistant_message_id: "m" }),
      () => stream(started(id), done(2)),
    );
    // Without its first event the stream was no whole one.
    expect(await send(script, continuing).result()).toMatchObject({ state: "completed", text: "a" });
  });

  test("whose log is gone shows the stored text instead of what was there", async () => {
    const script = playScript(
      () => stream(started(id, 0), text("a", 1)),
      status("done", { assistant_message_id: "m" }),
      () => stream(started(id), text("abc"), frame("citations", { items: [{ source: "web" }] }), done()),
    );
    const turn = send(script, continuing);
    expect(shownOf(await eventsOf(turn))).toBe("abc");
    expect(await turn.result()).toMatchObject({ text: "abc", citations: [{ source: "web" }], done: {} });
  });

  test("that breaks again and again is followed as long as it brings news", async () => {
    const pieces = Array.from({ length: 20 }, (_, at) => at + 1);
    const script = playScript(
      () => stream(started(id, 0)),
      ...pieces.flatMap((seq) => [
        status("running"),
        async () => {
          // All of them together take longer than is waited without news.
          await new Promise((resolve) => setTimeout(resolve, 20));
          return stream(started(id), text("x", seq));
        },
      ]),
      status("running"),
      () => stream(started(id), done(99)),
    );
    expect(await send(script, continuing, 300).result()).toMatchObject({ text: "x".repeat(20) });
  });

  test("that brings no news is given up", async () => {
    const script = playScript(() => stream(started(id, 0)), status("running"));
    const silent: typeof fetch = async (input, init) =>
      String(input).includes("/stream?") ? stream(started(id)) : script.fetch(input, init);
    const result = await send({ ...script, fetch: silent }, continuing, 300).result();
    expect(result).toMatchObject({ state: "uncertain", reason: "still_running" });
  });
});

describe("a turn of which only the status is known", () => {
  test.each(["stream_interrupted", "finalization_failed"])("%s is not the end of it", async (code) => {
    const script = playScript(
      () => stream(started(id), text("a"), frame("error", { code, message: "" })),
      status("running"),
      status("error", { error_code: "orphan_timeout" }),
    );
    const turn = send(script);
    expect((await eventsOf(turn)).map(({ type }) => type)).toEqual([
      "stream_started",
      "delta",
      "interrupted",
    ]);
    expect(await turn.result()).toMatchObject({
      state: "failed",
      code: "orphan_timeout",
      recovered: "stored",
    });
    expect(script.asked).toEqual(["POST /messages:stream", `GET /turns/${id}`, `GET /turns/${id}`]);
  });

  test("a server that cannot play it is asked for the message", async () => {
    const script = playScript(
      () => stream(started(id), text("a")),
      status("done", { assistant_message_id: "m" }),
      () => problem("route_not_found", 404),
      stored("all"),
    );
    const turn = send(script);
    expect(shownOf(await eventsOf(turn))).toBe("all");
    expect(await turn.result()).toMatchObject({
      state: "completed",
      messageId: "m",
      done: null,
      text: "all",
    });
    expect(script.asked.at(-1)).toBe("GET /messages?$filter=id eq m");
  });

  test("what will not change is not asked again", async () => {
    const script = playScript(
      () => stream(started(id), text("a")),
      () => problem("unauthorized", 401),
    );
    const result = await send(script).result();
    expect(result).toMatchObject({
      state: "uncertain",
      reason: "unreachable",
      cause: { code: "unauthorized" },
      text: "a",
    });
    expect(script.asked).toHaveLength(2);
  });

  test("a token that cannot be had for a moment is asked for again", async () => {
    const script = playScript(() => stream(started(id), text("a")), status("cancelled"));
    let asked = 0;
    const client = clientAt("http://server", {
      fetch: script.fetch,
      token: () => {
        asked += 1;
        if (asked === 2) throw new TypeError("offline");
        return "token";
      },
    });
    expect(await client.send("c", message).result()).toMatchObject({ state: "cancelled" });
    expect(asked).toBe(3);
    // Nothing was begun by somebody who only wants to look.
    asked = 1;
    await expect(client.turns.resume("c", id).result()).rejects.toThrow("offline");
  });

  test("a turn that is not resumable is not tried to be resumed again", async () => {
    const script = playScript(
      status("running"),
      () => problem("not_resumable", 409),
      status("running"),
      status("cancelled"),
    );
    const client = clientAt("http://server", { fetch: script.fetch });
    expect(await client.turns.resume("c", id).result()).toEqual({
      state: "cancelled",
      requestId: id,
      text: "",
      citations: [],
      recovered: "stored",
    });
    expect(script.asked.filter((asked) => asked.includes("/stream"))).toHaveLength(1);
  });
});

describe("a stream", () => {
  test("of a newer server: unknown events and fields are passed over", async () => {
    const script = playScript(() =>
      stream(
        ": hello\n\n",
        started(id),
        frame("mood", { good: true }),
        frame("delta", { type: "text", content: "a", more: 1 }),
        done(),
      ),
    );
    expect((await eventsOf(send(script))).map(({ type }) => type)).toEqual([
      "stream_started",
      "delta",
      "done",
    ]);
  });

  test("that makes no sense is as good as broken", async () => {
    for (const body of ["event: delta\ndata: {\n\n", "<html>", ""]) {
      const script = playScript(
        () => new Response(body, { headers: { "content-type": "text/event-stream" } }),
        status("cancelled"),
      );
      expect(await send(script).result()).toMatchObject({ state: "cancelled", recovered: "stored" });
    }
  });

  test("that falls silent is left, keep-alives are signs of life", async () => {
    let beats = 0;
    const beating = ({ signal }: RequestInit): Response =>
      new Response(
        new ReadableStream<Uint8Array>({
          start: (controller) => signal?.addEventListener("abort", () => controller.error(signal.reason)),
          pull: async (controller) => {
            if (beats === 5) return new Promise(() => {});
            await new Promise((resolve) => setTimeout(resolve, 60));
            beats += 1;
            controller.enqueue(new TextEncoder().encode(":\n\n"));
          },
        }),
        { headers: { "content-type": "text/event-stream" } },
      );
    const turn = send(playScript(beating, status("cancelled")), message, 500, 150);
    const [interrupted] = await eventsOf(turn);
    expect(interrupted).toMatchObject({
      type: "interrupted",
      data: { cause: { code: "connection_failed" } },
    });
    expect(beats).toBe(5);
  });
});

test("a lost message is sent once, whatever follows", async () => {
  const script = playScript();
  expect(await send(script).result()).toMatchObject({ state: "uncertain", reason: "unreachable" });
  expect(script.asked.filter((asked) => asked.startsWith("POST"))).toEqual(["POST /messages:stream"]);
  expect(script.asked.length).toBeGreaterThan(3);
});
