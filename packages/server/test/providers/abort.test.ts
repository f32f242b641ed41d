import { afterEach, describe, expect, test } from "vitest";
import type { ProviderRegistry } from "../../src/providers/contract.ts";
import {
  chunk,
  completed,
  drain,
  entry,
  head,
  lastChunk,
  type Received,
  registryOf,
  request,
  type ScriptedProvider,
  sse,
  startScriptedProvider,
  stream,
  streamHead,
  tenant,
  textDelta,
  textOf,
  whole,
} from "./support.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

const setUp = async (
  answer: (received: Received, count: number) => void,
  more: Record<string, unknown> = {},
): Promise<{ provider: ScriptedProvider; registry: ProviderRegistry }> => {
  const provider = await startScriptedProvider(answer);
  const registry = registryOf({ p: entry(provider.port, more) });
  opened.push(provider, registry);
  return { provider, registry };
};

describe("aborting closes the socket in every phase (providers.md §12.3)", () => {
  test("before the call", async () => {
    const { provider, registry } = await setUp(() => {});
    const { events, outcome } = await drain(stream(registry, AbortSignal.abort()));
    expect([events, outcome]).toEqual([[], { kind: "aborted", started: false }]);
    expect(provider.sockets).toHaveLength(0);
  });

  test("while connecting", async () => {
    // The handshake of a TLS connection that is never answered.
    const { provider, registry } = await setUp(() => {}, { use_http: false });
    const connection = provider.connection();
    const controller = new AbortController();
    const running = stream(registry, controller.signal);
    const socket = await connection;
    const closed = new Promise((resolve) => socket.once("close", resolve));
    controller.abort();
    expect((await drain(running)).outcome).toEqual({ kind: "aborted", started: false });
    await running.closed;
    await closed;
  });

  test("while waiting for headers", async () => {
    const controller = new AbortController();
    const { provider, registry } = await setUp(() => controller.abort());
    const running = stream(registry, controller.signal);
    expect((await drain(running)).outcome).toEqual({ kind: "aborted", started: true });
    await running.closed;
    await provider.requests[0]?.closed;
  });

  test("in the middle of the stream; nothing of later reads is handed over", async () => {
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(streamHead + chunk(textDelta("a")));
    });
    const controller = new AbortController();
    const running = stream(registry, controller.signal);
    const seen: string[] = [];
    for await (const batch of running) {
      seen.push(textOf(batch) || (batch.at(-1)?.type ?? ""));
      provider.requests[0]?.socket.write(chunk(textDelta("b")) + chunk(completed()) + lastChunk);
      controller.abort();
    }
    expect(seen).toEqual(["a", "terminal"]);
    await provider.requests[0]?.closed;
  });

  test("inside an error body", async () => {
    const controller = new AbortController();
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(`${head(500, {}, 1_000)}half`, () => setImmediate(() => controller.abort()));
    });
    expect((await drain(stream(registry, controller.signal))).outcome.kind).toBe("aborted");
    await provider.requests[0]?.closed;
  });

  test("while waiting to retry", async () => {
    const controller = new AbortController();
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(whole(503, "x", { "retry-after": "5" }), () => setImmediate(() => controller.abort()));
    });
    expect((await drain(stream(registry, controller.signal))).outcome).toEqual({
      kind: "aborted",
      started: true,
    });
    expect(provider.requests).toHaveLength(1);
  });

  test("in a whole answer", async () => {
    const controller = new AbortController();
    const { provider, registry } = await setUp(() => controller.abort());
    const target = registry.resolve("p", tenant);
    if (target === null) throw new Error("not configured");
    await expect(
      registry.adapter(target).complete(request(), target, controller.signal),
    ).rejects.toMatchObject({ name: "ProviderError", message: "the call was cancelled" });
    await provider.requests[0]?.closed;
  });

  test("when the consumer leaves", async () => {
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(streamHead + chunk(textDelta("a")));
    });
    const running = stream(registry);
    for await (const _batch of running) break;
    await running.closed;
    await provider.requests[0]?.closed;
  });

  test("when the registry closes", async () => {
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(streamHead + chunk(textDelta("a")));
      void registry.close();
    });
    expect((await drain(stream(registry))).outcome).toMatchObject({ kind: "failed", started: true });
    await provider.requests[0]?.closed;
  });
});

describe("after the terminal event (providers.md §1.4)", () => {
  test("trailing events are ignored and the connection is used again", async () => {
    const { provider, registry } = await setUp(({ socket }) => {
      socket.write(streamHead + chunk(textDelta("a")) + chunk(completed() + textDelta("late")));
      socket.write(chunk(sse("error", { message: "late" })) + chunk("data: \xff{") + lastChunk);
    });
    for (let n = 0; n < 2; n += 1) {
      const running = stream(registry);
      const { events, outcome } = await drain(running);
      expect([textOf(events), outcome.kind]).toEqual(["a", "completed"]);
      await running.closed;
    }
    expect([provider.requests.length, provider.sockets.length]).toEqual([2, 1]);
  });

  test("a response that does not end is closed after 2 s", async () => {
    const { provider, registry } = await setUp(({ socket }) => socket.write(streamHead + chunk(completed())));
    const running = stream(registry);
    expect((await drain(running)).outcome.kind).toBe("completed");
    await running.closed;
    await provider.requests[0]?.closed;
  });

  test("an abort closes at once and does not change the outcome that was handed over", async () => {
    const { provider, registry } = await setUp(({ socket }) => socket.write(streamHead + chunk(completed())));
    const controller = new AbortController();
    const running = stream(registry, controller.signal);
    expect((await drain(running)).outcome.kind).toBe("completed");
    controller.abort();
    await running.closed;
    await provider.requests[0]?.closed;
  });
});
