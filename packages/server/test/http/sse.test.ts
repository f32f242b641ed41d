import { once } from "node:events";
import http, { type IncomingMessage } from "node:http";
import net from "node:net";
import { afterEach, expect, test } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { openSse, type SseOptions, type SseWriter } from "../../src/http/sse.ts";
import { bearer, recordingLogger, testServer } from "./support.ts";

const patient: SseOptions = { silenceMs: 60_000, stalledMs: 60_000 };

let server: HttpServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

/** A server with one stream route; `opened` resolves with the writer of the next request. */
const serve = async (options: SseOptions, settings = {}, overrides = {}) => {
  const openings: ((writer: SseWriter) => void)[] = [];
  const opened = (): Promise<SseWriter> => new Promise((resolve) => openings.push(resolve));
  server = testServer(
    (api) => {
      api.post("/stream", { config: { stream: true } }, async (_request, reply) => {
        openings.shift()?.(openSse(reply, options));
      });
    },
    settings,
    overrides,
  );
  const { port } = await server.listen();
  return { port, opened };
};

const request = (port: number): http.ClientRequest => {
  const sent = http.request({ port, host: "127.0.0.1", method: "POST", path: "/v1/stream", headers: bearer });
  sent.on("error", () => {});
  sent.end();
  return sent;
};

const responseOf = async (sent: http.ClientRequest): Promise<IncomingMessage> => {
  const [response] = await once(sent, "response");
  return response;
};

const textOf = async (response: IncomingMessage): Promise<string> => {
  let text = "";
  for await (const chunk of response) text += chunk;
  return text;
};

const closing = (writer: SseWriter): Promise<void> => new Promise((resolve) => writer.onClose(resolve));

test("headers, frames as written, and the connection closes at the end", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const sent = request(port);
  const writer = await opening;
  const response = await responseOf(sent);
  expect(response.statusCode).toBe(200);
  expect(response.headers).toMatchObject({
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
    connection: "close",
  });
  expect(response.headers["x-request-id"]).toBeDefined();
  expect(response.headers["ratelimit-limit"]).toBeDefined();
  expect(response.headers["content-encoding"]).toBeUndefined();
  const closed = once(response.socket, "close");
  expect(writer.write("event: a\ndata: 1\n\nevent: b\ndata: 2\n\n")).toBe(true);
  writer.write("event: ü\ndata: 3\n\n");
  await writer.drained();
  writer.end();
  expect(await textOf(response)).toBe("event: a\ndata: 1\n\nevent: b\ndata: 2\n\nevent: ü\ndata: 3\n\n");
  await closed;
  expect(writer.closed).toBe(false);
});

test("headers go out before the first event", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const response = await responseOf(request(port));
  const writer = await opening;
  writer.end();
  expect(await textOf(response)).toBe("");
});

test("headers and the first event share one packet", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const socket = net.connect(port, "127.0.0.1");
  socket.write("POST /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good\r\n\r\n");
  void opening.then((writer) => writer.write("event: stream_started\ndata: {}\n\n"));
  const [first] = await once(socket, "data");
  expect(String(first)).toContain("stream_started");
  socket.destroy();
});

test("bytes that are no HTTP, sent during a stream, end the connection and put nothing into the stream", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const socket = net.connect(port, "127.0.0.1");
  let received = "";
  socket
    .on("error", () => {})
    .on("data", (chunk) => {
      received += chunk;
    });
  socket.write("POST /v1/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good\r\n\r\n");
  const writer = await opening;
  const left = closing(writer);
  writer.write("event: stream_started\ndata: {}\n\n");
  await once(socket, "data");
  const closed = once(socket, "close");
  socket.write("this is no HTTP\r\n\r\n");
  await Promise.all([left, closed]);
  expect(received.match(/HTTP\/1\.1/g)).toHaveLength(1);
  expect(received).not.toContain("problem+json");
});

test("nothing is written after the end", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const sent = request(port);
  const writer = await opening;
  writer.write("event: done\ndata: {}\n\n");
  writer.end();
  writer.write("event: late\ndata: {}\n\n");
  writer.comment();
  writer.end();
  expect(await textOf(await responseOf(sent))).toBe("event: done\ndata: {}\n\n");
});

test.each<[string, (sent: http.ClientRequest) => void]>([
  ["resets", (sent) => void sent.socket?.resetAndDestroy()],
  ["closes", (sent) => void sent.destroy()],
  ["half-closes", (sent) => void sent.socket?.end()],
])("a client that %s is noticed at once", async (_name, leave) => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const sent = request(port);
  const writer = await opening;
  await responseOf(sent);
  expect(writer.closed).toBe(false);
  const gone = closing(writer);
  leave(sent);
  await gone;
  expect(writer.closed).toBe(true);
  expect(writer.write("event: x\ndata: 1\n\n")).toBe(true);
  writer.end();
  let called = false;
  writer.onClose(() => {
    called = true;
  });
  expect(called).toBe(true);
});

test("a client that left before the stream opened is noticed", async () => {
  let seen: ((writer: SseWriter) => void) | undefined;
  let arrived = (): void => {};
  const written = new Promise<SseWriter>((resolve) => {
    seen = resolve;
  });
  const arrival = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  server = testServer((api) => {
    api.post("/stream", { config: { stream: true } }, async (incoming, reply) => {
      arrived();
      await once(incoming.raw.socket, "close");
      seen?.(openSse(reply, patient));
    });
  });
  const { port } = await server.listen();
  const sent = request(port);
  await arrival;
  sent.destroy();
  const writer = await written;
  await closing(writer);
  expect(writer.closed).toBe(true);
});

const megabyte = `data: ${"x".repeat(1_048_576)}\n\n`;

/** Writes more than the buffers of both sockets can hold. */
const fill = (writer: SseWriter): void => {
  for (let at = 0; at < 64; at += 1) writer.write(megabyte);
};

test("a client that does not read stops the writer, and reading frees it", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const response = await responseOf(request(port));
  const writer = await opening;
  response.pause();
  fill(writer);
  const waiting = writer.drained();
  let free = false;
  void waiting.then(() => {
    free = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(free).toBe(false);
  response.resume();
  await waiting;
  writer.end();
});

test("waiting for a client ends when it leaves", async () => {
  const { port, opened } = await serve(patient);
  const opening = opened();
  const sent = request(port);
  const response = await responseOf(sent);
  const writer = await opening;
  response.pause();
  fill(writer);
  const waiting = writer.drained();
  sent.destroy();
  await waiting;
  await closing(writer);
});

test("a client that drains nothing for too long counts as gone", async () => {
  const { port, opened } = await serve({ silenceMs: 60_000, stalledMs: 300 });
  const opening = opened();
  const response = await responseOf(request(port));
  response.on("error", () => {});
  const writer = await opening;
  response.pause();
  fill(writer);
  await closing(writer);
  expect(writer.closed).toBe(true);
});

test("a client that drains nothing behind the end holds its connection no longer", async () => {
  const { port, opened } = await serve({ silenceMs: 60_000, stalledMs: 300 });
  const opening = opened();
  const response = await responseOf(request(port));
  response.on("error", () => {});
  const writer = await opening;
  response.pause();
  fill(writer);
  writer.end();
  const connections = (): Promise<number> =>
    new Promise((resolve) => server?.app.server.getConnections((_error, count) => resolve(count)));
  expect(await connections()).toBe(1);
  await expect.poll(connections, { timeout: 5_000 }).toBe(0);
  expect(response.complete).toBe(false);
});

test("silence is filled with comments, again and again", async () => {
  const { port, opened } = await serve({ silenceMs: 10, stalledMs: 60_000 });
  const opening = opened();
  const response = await responseOf(request(port));
  const writer = await opening;
  const [first] = await once(response, "data");
  const [second] = await once(response, "data");
  expect(`${first}${second}`).toBe(":\n\n:\n\n");
  writer.end();
});

test("the owner decides what fills the silence", async () => {
  let silent = (): void => {};
  const called = new Promise<void>((resolve) => {
    silent = resolve;
  });
  const { port, opened } = await serve({ silenceMs: 10, stalledMs: 60_000, onSilence: () => silent() });
  const opening = opened();
  const sent = request(port);
  await opening;
  await called;
  sent.destroy();
});

test("a stream is in flight only until its headers are sent", async () => {
  const { port, opened } = await serve(patient, {
    server: { rate_limit: { in_flight: 1, rps: 100, burst: 100, per_user_rps: 0 } },
  });
  const first = opened();
  const one = await responseOf(request(port));
  const second = opened();
  const other = await responseOf(request(port));
  expect([one.statusCode, other.statusCode]).toEqual([200, 200]);
  for (const writer of [await first, await second]) writer.end();
  await Promise.all([textOf(one), textOf(other)]);
});

test("the request line is written when the stream is over, also when the client left", async () => {
  const { logger, lines } = recordingLogger();
  const { port, opened } = await serve(patient, {}, { logger });
  const opening = opened();
  const sent = request(port);
  const writer = await opening;
  await responseOf(sent);
  expect(lines.filter(({ msg }) => msg === "request")).toEqual([]);
  const gone = closing(writer);
  sent.destroy();
  await gone;
  expect(lines.filter(({ msg }) => msg === "request")).toHaveLength(1);
});
