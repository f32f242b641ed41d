import { afterEach, describe, expect, test } from "vitest";
import type { CallFailure } from "../../src/providers/failure.ts";
import { retryAfterFailure, retryAfterStatus } from "../../src/providers/retry.ts";
import {
  chunk,
  completed,
  drain,
  entry,
  lastChunk,
  otherTenant,
  type Received,
  recordTelemetry,
  registryOf,
  request,
  type ScriptedProvider,
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

const provider = async (answer: (received: Received, count: number) => void): Promise<ScriptedProvider> => {
  const started = await startScriptedProvider(answer);
  opened.push(started);
  return started;
};

const answerOk = ({ socket }: Received): void => {
  socket.write(streamHead + chunk(textDelta("ok")) + chunk(completed()) + lastChunk);
};

const now = Date.parse("2026-11-24T00:00:00Z");

describe("what is retried (providers.md §8.3)", () => {
  test.each([
    [429, "0", { delayMs: 0, reason: "429" }],
    [503, "5", { delayMs: 5_000, reason: "5xx" }],
    [503, "Tue, 24 Nov 2026 00:00:02 GMT", { delayMs: 2_000, reason: "5xx" }],
    [503, "Mon, 23 Nov 2026 00:00:00 GMT", { delayMs: 0, reason: "5xx" }],
    [429, "6", null],
    [429, "soon", null],
    [429, undefined, null],
    [500, "0", null],
    [502, "0", null],
    [504, "0", null],
    [200, "0", null],
  ])("status %i with Retry-After %s", (status, retryAfter, verdict) => {
    expect(retryAfterStatus(status, retryAfter, now)).toEqual(verdict);
  });

  test.each<[CallFailure["kind"], boolean, boolean]>([
    ["unavailable", false, true],
    ["timeout", false, false],
    ["timeout", true, false],
    ["lost", true, false],
    ["aborted", false, false],
  ])("a failed connection: %s, started %s", (kind, started, retried) => {
    const failure = { kind, cause: "x" } as CallFailure;
    expect(retryAfterFailure(failure, started) !== null).toBe(retried);
  });
});

describe("the retry", () => {
  test("429 with Retry-After: 0, then an answer: one start, one stream", async () => {
    const { port, requests } = await provider((received, count) => {
      if (count === 1) received.socket.write(whole(429, "x", { "retry-after": "0" }));
      else answerOk(received);
    });
    const telemetry = recordTelemetry();
    const registry = registryOf({ p: entry(port) }, { telemetry });
    opened.push(registry);
    const { events, outcome } = await drain(stream(registry));
    expect([textOf(events), outcome.kind, requests.length]).toEqual(["ok", "completed", 2]);
    expect(requests[1]?.headers["x-request-id"]).toBe("turn-1");
    expect(requests[1]?.body).toEqual(requests[0]?.body);
    expect(telemetry.recorded.filter((line) => line.startsWith("egress_retries"))).toEqual([
      "egress_retries{p,429}",
    ]);
  });

  test("at most one", async () => {
    const { port, requests } = await provider(({ socket }) =>
      socket.write(whole(503, "x", { "retry-after": "0" })),
    );
    const registry = registryOf({ p: entry(port) });
    opened.push(registry);
    const { outcome } = await drain(stream(registry));
    expect(outcome).toMatchObject({ code: "provider_error", started: true });
    expect(requests).toHaveLength(2);
  });

  test("never once the request was written", async () => {
    const { port, requests } = await provider(({ socket }) => socket.resetAndDestroy());
    const registry = registryOf({ p: entry(port) });
    opened.push(registry);
    await drain(stream(registry));
    expect(requests).toHaveLength(1);
  });
});

describe("the breaker of an upstream", () => {
  test("five failures open it: then no request is made until 30 s have passed", async () => {
    const time = { at: 0, now: () => time.at };
    let healthy = false;
    const { port, requests } = await provider((received) => {
      if (healthy) answerOk(received);
      else received.socket.write(whole(500, "x"));
    });
    const telemetry = recordTelemetry();
    const registry = registryOf({ p: entry(port) }, { telemetry, clock: time });
    opened.push(registry);
    for (let n = 0; n < 5; n += 1) await drain(stream(registry));
    const { outcome } = await drain(stream(registry));
    expect(outcome).toMatchObject({
      code: "provider_error",
      message: "provider is unavailable",
      started: false,
    });
    expect(requests).toHaveLength(5);
    expect(telemetry.recorded).toContain("egress_circuit_open{p}");
    healthy = true;
    time.at = 30_000;
    expect((await drain(stream(registry))).outcome.kind).toBe("completed");
  });

  test("HTTP 400 and 429 do not open it", async () => {
    const { port, requests } = await provider(({ socket }, count) =>
      socket.write(whole(count % 2 ? 400 : 429, "x")),
    );
    const registry = registryOf({ p: entry(port) });
    opened.push(registry);
    for (let n = 0; n < 12; n += 1) await drain(stream(registry));
    expect(requests).toHaveLength(12);
  });
});

test("an override tenant and the others share no host, key or breaker (§12.8)", async () => {
  const { port, requests } = await provider((received) => {
    if (received.headers.authorization === "Bearer own-key") answerOk(received);
    else received.socket.write(whole(500, "x"));
  });
  const registry = registryOf(
    {
      p: entry(port, {
        auth: { kind: "apikey", secret_ref: "root" },
        tenant_overrides: {
          [otherTenant]: { host: "localhost", auth: { kind: "apikey", secret_ref: "own" } },
        },
      }),
    },
    { secrets: { root: "root-key", own: "own-key" } },
  );
  opened.push(registry);
  expect(registry.resolve("p", tenant)?.origin).toBe(`http://127.0.0.1:${port}`);
  expect(registry.resolve("p", otherTenant)?.origin).toBe(`http://localhost:${port}`);
  // Six failures of the root upstream open its breaker only.
  for (let n = 0; n < 6; n += 1) await drain(stream(registry));
  const identity = { ...request().userIdentity, tenantId: otherTenant };
  const { outcome } = await drain(stream(registry, undefined, { userIdentity: identity }));
  expect(outcome.kind).toBe("completed");
  expect(requests.map(({ headers }) => `${headers.host} ${headers.authorization}`)).toEqual([
    ...Array(5).fill(`127.0.0.1:${port} Bearer root-key`),
    `localhost:${port} Bearer own-key`,
  ]);
});
