import { afterEach, describe, expect, test } from "vitest";
import type { ProviderRegistry } from "../../src/providers/contract.ts";
import {
  chunk,
  completed,
  drain,
  entry,
  head,
  lastChunk,
  normalisedUsage,
  type Received,
  rawChunk,
  recordTelemetry,
  registryOf,
  type ScriptedProvider,
  sse,
  startScriptedProvider,
  stream,
  streamHead,
  tenant,
  textDelta,
  textOf,
  usage,
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

const registry = (...args: Parameters<typeof registryOf>): ProviderRegistry => {
  const created = registryOf(...args);
  opened.push(created);
  return created;
};

const limiting = "provider is limiting requests";
const late = "provider did not answer in time";
const unavailable = "provider is unavailable";

/** Every row of providers.md §7.1 that an answer can cause: what the provider does, what we say. */
const rows: readonly [
  name: string,
  answer: (received: Received) => void,
  expected: { code: string; message: unknown; usage?: unknown; responseId?: string },
][] = [
  [
    "HTTP 429",
    ({ socket }) => socket.write(whole(429, { error: { message: "slow down org-abc123" } })),
    { code: "rate_limited", message: limiting },
  ],
  ["HTTP 408", ({ socket }) => socket.write(whole(408, "x")), { code: "provider_timeout", message: late }],
  ["HTTP 504", ({ socket }) => socket.write(whole(504, "x")), { code: "provider_timeout", message: late }],
  ["header timeout", () => {}, { code: "provider_timeout", message: late }],
  [
    "idle timeout",
    ({ socket }) => socket.write(streamHead + chunk(textDelta("a"))),
    { code: "provider_timeout", message: late },
  ],
  [
    "HTTP 500 with { error: { code, message } }",
    ({ socket }) =>
      socket.write(whole(500, { error: { code: "x", message: "failed req_1 at https://a.b/c" } })),
    { code: "provider_error", message: "failed [provider_id] at [url]" },
  ],
  [
    "HTTP 400 with { code, message }",
    ({ socket }) => socket.write(whole(400, { code: "x", message: "no model gpt-deployed" })),
    { code: "provider_error", message: "no model [model]" },
  ],
  [
    "HTTP 404 with text: its first 200 characters",
    ({ socket }) => socket.write(whole(404, "x".repeat(300))),
    { code: "provider_error", message: "x".repeat(200) },
  ],
  [
    "HTTP 503 without a body",
    ({ socket }) => socket.write(head(503, {}, 0)),
    { code: "provider_error", message: "provider reported an error" },
  ],
  [
    "HTTP 503 as an event stream that says completed: the status decides",
    ({ socket }) =>
      socket.write(
        head(503, { "content-type": "text/event-stream" }) + chunk(`: down\n\n${completed()}`) + lastChunk,
      ),
    {
      code: "provider_error",
      message: expect.stringMatching(/^: down event: response.completed data: /),
    },
  ],
  [
    "HTTP 429 whose body breaks off: the status decides",
    ({ socket }) => {
      socket.write(head(429, {}, 100));
      socket.destroy();
    },
    { code: "rate_limited", message: limiting },
  ],
  [
    "a 200 answer that is no event stream",
    ({ socket }) => socket.write(whole(200, { error: { message: "not here" } })),
    { code: "provider_error", message: "not here" },
  ],
  [
    "response.failed",
    ({ socket }) =>
      socket.write(
        streamHead +
          chunk(
            sse("response.failed", {
              response: { id: "resp_9", usage, error: { code: "server_error", message: "broke on msg_42" } },
            }),
          ) +
          lastChunk,
      ),
    {
      code: "provider_error",
      message: "broke on [provider_id]",
      usage: normalisedUsage,
      responseId: "resp_9",
    },
  ],
  [
    "an error event",
    ({ socket }) =>
      socket.write(
        streamHead + chunk(sse("error", { code: "rate_limit_exceeded", message: "no" })) + lastChunk,
      ),
    { code: "provider_error", message: "no" },
  ],
  [
    "broken JSON in a known event",
    ({ socket }) =>
      socket.write(`${streamHead}${chunk('event: response.output_text.delta\ndata: {"type\n\n')}`),
    { code: "provider_error", message: "the provider sent an unreadable event" },
  ],
  [
    "invalid UTF-8",
    ({ socket }) =>
      socket.write(
        Buffer.concat([Buffer.from(streamHead), rawChunk(Buffer.from("data: \xff\n\n", "latin1"))]),
      ),
    { code: "provider_error", message: "the provider sent invalid UTF-8" },
  ],
  [
    "an event over 1 MB",
    ({ socket }) => socket.write(streamHead + chunk(textDelta("x".repeat(1_048_576)))),
    { code: "provider_error", message: "the provider sent an event that is too big" },
  ],
  [
    "an end without a terminal event",
    ({ socket }) => socket.write(streamHead + chunk(textDelta("a")) + lastChunk),
    { code: "provider_error", message: "the provider ended the stream early" },
  ],
  [
    "a reset",
    ({ socket }) => {
      socket.write(streamHead + chunk(sse("response.created", { response: { id: "resp_7" } })), () =>
        socket.resetAndDestroy(),
      );
    },
    { code: "provider_error", message: "the connection to the provider was lost" },
  ],
  [
    "a connection closed before any answer",
    ({ socket }) => socket.destroy(),
    { code: "provider_error", message: "the connection to the provider was lost" },
  ],
  [
    "an answer that is not HTTP",
    ({ socket }) => socket.write("hello\r\n\r\n"),
    { code: "provider_error", message: "the provider sent an unreadable answer" },
  ],
];

describe("normalised errors (providers.md §7.1)", () => {
  test.each(rows)("%s", async (_name, answer, expected) => {
    const { port, requests } = await provider(answer);
    const { outcome } = await drain(
      stream(registry({ p: entry(port) }, { egress: { request_timeout_secs: 0.2, idle_timeout_secs: 0.2 } })),
    );
    const { responseId, ...rest } = expected;
    expect(outcome).toMatchObject({ kind: "failed", started: true, usage: null, ...rest });
    if (responseId !== undefined) expect(outcome).toMatchObject({ responseId });
    expect(requests).toHaveLength(1);
  });

  test("what was received before a failure is handed over first", async () => {
    const { port } = await provider(({ socket }) => {
      socket.write(streamHead + chunk(textDelta("a")) + chunk(textDelta("b")), () =>
        socket.resetAndDestroy(),
      );
    });
    const { events, outcome } = await drain(stream(registry({ p: entry(port) })));
    expect([textOf(events), outcome.kind]).toEqual(["ab", "failed"]);
  });

  test("connect timeout, before the request", async () => {
    // TLS that nobody answers: the connection never comes up.
    const { port, requests } = await provider(() => {});
    const { outcome } = await drain(
      stream(registry({ p: entry(port, { use_http: false }) }, { egress: { connect_timeout_secs: 0.1 } })),
    );
    expect(outcome).toMatchObject({
      kind: "failed",
      code: "provider_timeout",
      message: late,
      started: false,
    });
    expect(requests).toHaveLength(0);
  });

  test("connection refused, before the request, after one retry", async () => {
    const { port, close } = await startScriptedProvider(() => {});
    await close();
    const telemetry = recordTelemetry();
    const { outcome } = await drain(stream(registry({ p: entry(port) }, { telemetry })));
    expect(outcome).toMatchObject({
      kind: "failed",
      code: "provider_error",
      message: unavailable,
      started: false,
    });
    expect(telemetry.recorded).toEqual([
      "provider_requests{p,responses_stream}",
      "provider_errors{p,transport}",
      "provider_latency_ms{p,responses_stream}",
      "egress_retries{p,transport}",
      "provider_requests{p,responses_stream}",
      "provider_errors{p,transport}",
      "provider_latency_ms{p,responses_stream}",
    ]);
  });

  test("DNS failure, before the request", async () => {
    const { outcome } = await drain(stream(registry({ p: entry(443, { host: "no-such-host.invalid" }) })));
    expect(outcome).toMatchObject({ code: "provider_error", message: unavailable, started: false });
  });

  test("our own cap", async () => {
    const { port, requests } = await provider(() => {});
    const capped = registry({ p: entry(port, { limits: { per_tenant_max: 1 } }) });
    const first = new AbortController();
    const running = stream(capped, first.signal);
    const { outcome } = await drain(stream(capped));
    expect(outcome).toMatchObject({ code: "rate_limited", message: limiting, started: false });
    first.abort();
    await drain(running);
    // The place is free again: this one gets as far as the wire.
    const third = new AbortController();
    const again = stream(capped, third.signal);
    await expect.poll(() => requests.length).toBeGreaterThan(0);
    third.abort();
    await drain(again);
  });

  test("an unknown provider", async () => {
    expect(registry({ p: entry(1) }).resolve("q", tenant)).toBeNull();
  });

  test("a missing credential", async () => {
    const { port, sockets } = await provider(() => {});
    const auth = { kind: "apikey", secret_ref: "absent" };
    const { outcome } = await drain(stream(registry({ p: entry(port, { auth }) })));
    expect(outcome).toMatchObject({ code: "internal_error", message: "internal error", started: false });
    expect(sockets).toHaveLength(0);
  });

  test("a redirect is an error, and is not followed", async () => {
    const elsewhere = await provider(() => {});
    const { port, requests } = await provider(({ socket }, count) => {
      socket.write(head(count === 1 ? 302 : 307, { location: `http://127.0.0.1:${elsewhere.port}/` }, 0));
    });
    const redirected = registry({ p: entry(port) });
    for (const status of ["302", "307"]) {
      const { outcome } = await drain(stream(redirected));
      expect(outcome).toMatchObject({ code: "provider_error", detail: `HTTP ${status}: ` });
    }
    expect(requests).toHaveLength(2);
    expect(elsewhere.sockets).toHaveLength(0);
  });

  test("a body above egress.max_body_mb", async () => {
    const { port } = await provider(({ socket }) => {
      socket.write(streamHead);
      for (let n = 0; n < 200; n += 1) socket.write(chunk(textDelta("x".repeat(100))));
    });
    const { outcome } = await drain(stream(registry({ p: entry(port) }, { egress: { max_body_mb: 0.01 } })));
    expect(outcome).toMatchObject({ code: "provider_error", message: "the provider sent too much" });
  });

  test("an error body above 64 KB is cut, and the connection closed", async () => {
    const { port, requests } = await provider(({ socket }) => {
      socket.write(head(500, {}, 10_000_000) + "y".repeat(70_000));
    });
    const { outcome } = await drain(stream(registry({ p: entry(port) })));
    expect(outcome).toMatchObject({ code: "provider_error", message: "y".repeat(200) });
    await requests[0]?.closed;
  });
});

test("no secret is in a message, a detail or a log line (§12.7)", async () => {
  const key = "0123456789abcdef-azure-key";
  const { port } = await provider(({ socket, headers }, count) => {
    const echo = `wrong key ${headers["api-key"]} or sk-abcdefghijklmn or Bearer xyz`;
    if (count === 1) socket.write(whole(401, { error: { message: echo } }));
    else if (count === 2) socket.write(whole(400, echo));
    else socket.write(streamHead + chunk(sse("error", { message: echo })) + lastChunk);
  });
  const telemetry = recordTelemetry();
  const auth = { kind: "apikey", header: "api-key", prefix: "", secret_ref: "k" };
  const keyed = registry({ p: entry(port, { auth }) }, { secrets: { k: key }, telemetry });
  for (let n = 0; n < 3; n += 1) {
    const { outcome } = await drain(stream(keyed));
    const shown = JSON.stringify([outcome, telemetry.lines]);
    expect(outcome).toMatchObject({ message: "wrong key [credential] or [credential] or [credential]" });
    for (const secret of [key, "sk-abc", "Bearer xyz"]) expect(shown).not.toContain(secret);
  }
});
