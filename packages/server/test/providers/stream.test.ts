import { afterEach, expect, test } from "vitest";
import {
  chunk,
  completed,
  drain,
  entry,
  lastChunk,
  normalisedUsage,
  type Received,
  rawChunk,
  recordTelemetry,
  registryOf,
  sse,
  startScriptedProvider,
  stream,
  streamHead,
  type Telemetry,
  textDelta,
  textOf,
} from "./support.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

const setUp = async (
  answer: (received: Received) => void,
  telemetry: Telemetry = recordTelemetry(),
  auth: Record<string, unknown> = { kind: "apikey", secret_ref: "k" },
) => {
  const provider = await startScriptedProvider(answer);
  const registry = registryOf({ p: entry(provider.port, { auth }) }, { secrets: { k: "key-1" }, telemetry });
  opened.push(provider, registry);
  return { provider, registry };
};

test("a call carries our headers, and none but those", async () => {
  const { provider, registry } = await setUp(({ socket }) =>
    socket.write(streamHead + chunk(completed()) + lastChunk),
  );
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await drain(stream(registry, undefined, { traceparent }));
  await drain(stream(registry, undefined, { traceparent: "forged\r\nx: y" }));
  expect(provider.requests[0]?.path).toBe("/v1/responses");
  expect(provider.requests[0]?.headers).toEqual({
    host: `127.0.0.1:${provider.port}`,
    connection: "keep-alive",
    "content-type": "application/json",
    accept: "text/event-stream",
    "x-request-id": "turn-1",
    authorization: "Bearer key-1",
    traceparent,
    "content-length": expect.stringMatching(/^\d+$/),
  });
  expect(provider.requests[1]?.headers.traceparent).toBeUndefined();
});

test("what one read brought is one batch, delta by delta", async () => {
  const { registry } = await setUp(({ socket }) => {
    socket.write(streamHead + chunk(textDelta("a")) + chunk(textDelta("b") + textDelta("c")), () => {
      socket.write(chunk(completed()) + lastChunk);
    });
  });
  const batches: string[][] = [];
  for await (const batch of stream(registry)) {
    batches.push(batch.map((event) => (event.type === "delta" ? event.content : event.type)));
  }
  expect(batches.flat()).toEqual(["a", "b", "c", "terminal"]);
  expect(batches.length).toBeLessThanOrEqual(2);
});

test("HTTP chunks of one byte each give the same events (§12.9)", async () => {
  const bytes = Buffer.from(
    sse("response.created", { response: { id: "resp_1" } }) +
      textDelta("é漢🎉") +
      textDelta('"quoted"\n') +
      completed(),
  );
  const { registry } = await setUp(({ socket }) => {
    socket.write(streamHead);
    for (const byte of bytes) socket.write(rawChunk(Buffer.from([byte])));
    socket.write(lastChunk);
  });
  const { events, outcome } = await drain(stream(registry));
  expect(events.map(({ type }) => type)).toEqual(["skip", "delta", "delta"]);
  expect(textOf(events)).toBe('é漢🎉"quoted"\n');
  expect(outcome).toEqual({
    kind: "completed",
    usage: normalisedUsage,
    responseId: "resp_1",
    citations: [],
  });
});

test("slow-loris: bytes that keep coming are waited for", async () => {
  const bytes = [...Buffer.from(textDelta("slow") + completed())];
  const { registry } = await setUp(({ socket }) => {
    socket.write(streamHead);
    const next = (): void => {
      const byte = bytes.shift();
      if (byte === undefined) socket.write(lastChunk);
      else socket.write(rawChunk(Buffer.from([byte])), () => setImmediate(next));
    };
    next();
  });
  const { events, outcome } = await drain(stream(registry));
  expect([textOf(events), outcome.kind]).toEqual(["slow", "completed"]);
});

test("an end without a last chunk, when the server closes the connection, is an end", async () => {
  const { registry } = await setUp(({ socket }) => {
    socket.end(`HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n${textDelta("a")}${completed()}`);
  });
  const { events, outcome } = await drain(stream(registry));
  expect([textOf(events), outcome.kind]).toEqual(["a", "completed"]);
});

test("a consumer that does not read stops the provider, and misses nothing when it reads again", async () => {
  const piece = chunk(textDelta("x".repeat(60_000)));
  const pieces = 1_000;
  let sent = 0;
  const { provider, registry } = await setUp(({ socket }) => {
    socket.write(streamHead);
    const pump = (): void => {
      while (sent < pieces) {
        sent += 1;
        if (!socket.write(piece)) {
          socket.once("drain", pump);
          return;
        }
      }
      socket.write(chunk(completed()) + lastChunk);
    };
    pump();
  });
  const running = stream(registry);
  const iterator = running[Symbol.asyncIterator]();
  let length = textOf((await iterator.next()).value ?? []).length;
  // The buffers of the system take some megabytes, then the provider is stuck.
  let before = -1;
  await expect
    .poll(
      () => {
        const stuck = sent === before;
        before = sent;
        return stuck;
      },
      { interval: 100 },
    )
    .toBe(true);
  expect(sent).toBeLessThan(pieces / 2);
  for (let step = await iterator.next(); step.done !== true; step = await iterator.next()) {
    length += textOf(step.value).length;
  }
  expect(length).toBe(pieces * 60_000);
  expect(provider.requests).toHaveLength(1);
});

test("a call is counted, timed and logged once, with the provider's request id (§8.5)", async () => {
  const telemetry = recordTelemetry();
  const { registry } = await setUp(({ socket }) => {
    const named = streamHead.replace("\r\n\r\n", "\r\nx-request-id: req_77\r\n\r\n");
    socket.write(named + chunk(completed()) + lastChunk);
  }, telemetry);
  await drain(stream(registry));
  expect(telemetry.recorded).toEqual([
    "provider_requests{p,responses_stream}",
    "egress_upstream_latency_ms{p,responses_stream}",
    "provider_latency_ms{p,responses_stream}",
  ]);
  expect(telemetry.lines.map((line) => JSON.parse(line))).toMatchObject([
    {
      provider: "p",
      endpoint: "responses_stream",
      http_status: 200,
      status: "ok",
      provider_request_id: "req_77",
      correlation_id: "turn-1",
    },
  ]);
});
