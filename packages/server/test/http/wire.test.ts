import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { errorCatalog } from "../../src/errors.ts";
import type { ApiServer, HttpServer } from "../../src/http/server.ts";
import { uuid } from "../../src/http/validate.ts";
import { bearer, testServer } from "./support.ts";

const routes = (api: ApiServer): void => {
  const params = z.object({ id: uuid() });
  const body = z.object({ content: z.string(), ids: z.array(uuid()).optional() });
  api.get(
    "/chats",
    { schema: { querystring: z.object({ limit: z.string().optional() }) } },
    async () => ({}),
  );
  api.post("/chats", { schema: { body } }, async () => ({}));
  api.get("/chats/:id", { schema: { params } }, async () => ({}));
  api.post("/chats/:id/messages::stream", { schema: { params, body } }, async () => ({}));
};

let server: HttpServer;
let port = 0;
beforeAll(async () => {
  server = testServer(routes, {
    server: { cors: { enabled: true, allowed_origins: ["https://app.example"] } },
  });
  port = (await server.listen()).port;
});
afterAll(() => server.close());

/** Sends bytes and reads until the server closes the connection. */
const talk = async (bytes: string): Promise<string> => {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.write(bytes);
  await once(socket, "close");
  return answer;
};

test.each<[string, string]>([
  ["no HTTP at all", "hello\r\n\r\n"],
  ["oversized headers", `GET / HTTP/1.1\r\nhost: x\r\nx: ${"y".repeat(70_000)}\r\n\r\n`],
  ["an invalid header", "GET / HTTP/1.1\r\nhost: x\r\nb@d header\r\n\r\n"],
])("%s is answered with a problem", async (_name, bytes) => {
  const answer = await talk(bytes);
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  expect(answer).toContain("content-type: application/problem+json");
  expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({
    code: "invalid_request",
    status: 400,
  });
});

test("a broken chunk of a body is answered with a problem", async () => {
  const head =
    "POST /v1/chats HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good\r\ncontent-type: application/json";
  const answer = await talk(`${head}\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
});

test("a body shorter than announced ends without a crash", async () => {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.end(
    "POST /v1/chats HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{",
  );
  socket.resume();
  await once(socket, "close");
  expect((await fetch(`http://127.0.0.1:${port}/v1/chats`, { headers: bearer })).status).toBe(200);
});

/** Sends a whole body without reading, and only then reads until the connection closes. */
const sendAllThenRead = async (head: readonly string[], body: Buffer): Promise<string> => {
  const socket = net.connect(port, "127.0.0.1");
  const failed = once(socket, "error").then(([error]) => Promise.reject(error));
  failed.catch(() => {});
  socket.pause();
  socket.write([...head, "", ""].join("\r\n"));
  for (let at = 0; at < body.length; at += 1_048_576) {
    const taken = new Promise((resolve) => socket.write(body.subarray(at, at + 1_048_576), resolve));
    await Promise.race([taken, failed]);
  }
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk;
  });
  socket.resume();
  await Promise.race([once(socket, "close"), failed]);
  return answer;
};

const postHead = ["POST /v1/chats HTTP/1.1", "host: x", "content-type: application/json"];
const authorization = "authorization: Bearer good";

test.each<[string, number, string, readonly string[]]>([
  ["of announced length, over the limit", 413, "body_too_large", [authorization, "content-length: 25165824"]],
  ["in chunks, over the limit", 413, "body_too_large", [authorization, "transfer-encoding: chunked"]],
  [
    "of a stranger who wants the connection closed",
    401,
    "unauthorized",
    ["connection: close", "content-length: 25165824"],
  ],
])(
  "the refusal of a large body can be read by who sends all of it first: %s",
  async (_name, status, code, more) => {
    const size = 24 * 1_048_576;
    const body = Buffer.alloc(size, "x");
    const framed = more.includes("transfer-encoding: chunked")
      ? Buffer.concat([Buffer.from(`${size.toString(16)}\r\n`), body, Buffer.from("\r\n0\r\n\r\n")])
      : body;
    const answer = await sendAllThenRead([...postHead, ...more], framed);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).toMatch(/\r\nconnection: close\r\n/i);
    expect(JSON.parse(answer.split("\r\n\r\n")[1] ?? "")).toMatchObject({ status, code });
  },
);

test("a body over the limit is refused before it is sent", async () => {
  const socket = net.connect(port, "127.0.0.1");
  socket.write([...postHead, authorization, "content-length: 25165824", "", ""].join("\r\n"));
  const [first] = await once(socket, "data");
  expect(String(first)).toMatch(/^HTTP\/1\.1 413 .*"code":"body_too_large"/s);
  socket.destroy();
});

test("closing waits for the answer under way, not for the keep-alive time of its connection", async () => {
  let finish = (): void => {};
  let arrived = (): void => {};
  const arrival = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const slow = testServer((api) => {
    api.get("/slow", async () => {
      arrived();
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return {};
    });
  });
  const { port: slowPort } = await slow.listen();
  const agent = new http.Agent({ keepAlive: true });
  const request = http.get({ host: "127.0.0.1", port: slowPort, path: "/v1/slow", headers: bearer, agent });
  const responded = once(request, "response");
  await arrival;
  let closed = false;
  const closing = slow.close().then(() => {
    closed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(closed).toBe(false);
  finish();
  const [response] = await responded;
  response.resume();
  expect(response.statusCode).toBe(200);
  await closing;
  agent.destroy();
});

test("CORS: preflight and answers to allowed origins only, with the headers of the contract exposed", async () => {
  const preflight = await server.app.inject({
    method: "OPTIONS",
    url: "/v1/chats",
    headers: { origin: "https://app.example", "access-control-request-method": "POST" },
  });
  expect(preflight.statusCode).toBe(204);
  expect(preflight.headers["access-control-allow-origin"]).toBe("https://app.example");
  const refused = await server.app.inject({ url: "/v1/chats", headers: { origin: "https://app.example" } });
  expect(refused.statusCode).toBe(401);
  expect(refused.headers["access-control-allow-origin"]).toBe("https://app.example");
  expect(refused.headers["access-control-expose-headers"]).toContain("RateLimit-Remaining");
  const foreign = await server.app.inject({ url: "/v1/chats", headers: { origin: "https://evil.example" } });
  expect(foreign.headers["access-control-allow-origin"]).toBeUndefined();
});

test.each<[string, string, Record<string, string>, number, string | undefined]>([
  ["of an unknown path", "/v1/nothing", { "access-control-request-method": "GET" }, 404, undefined],
  [
    "for a method the path has not",
    "/v1/chats",
    { "access-control-request-method": "PUT" },
    405,
    "GET, POST",
  ],
  ["that asks for no method", "/v1/chats", {}, 405, "GET, POST"],
])("OPTIONS %s is refused", async (_name, url, more, status, allow) => {
  const headers = { origin: "https://app.example", ...more };
  const answer = await server.app.inject({ method: "OPTIONS", url, headers });
  expect(answer.statusCode).toBe(status);
  expect(answer.headers.allow).toBe(allow);
  expect(answer.json().status).toBe(status);
});

const segment = fc.oneof(
  fc.constantFrom(
    "v1",
    "chats",
    "messages:stream",
    "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f",
    "%3A",
    "%",
    "..",
    "",
  ),
  fc.string({ maxLength: 12 }).map((text) => encodeURIComponent(text.toWellFormed())),
  fc.string({ maxLength: 12, unit: "grapheme-ascii" }).map((text) => text.replaceAll(/[\s#]/g, "")),
);
const payload = fc.oneof(
  fc.json(),
  fc.string({ unit: "binary" }),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.record({ content: fc.anything(), ids: fc.anything() }).map((value) => {
    try {
      return JSON.stringify(value) ?? "";
    } catch {
      return "{";
    }
  }),
);
const headerValue = fc.string({ unit: fc.constantFrom(...'abcZ09 ;=/+-_.,"é') });

const send = async (
  method: string,
  path: string,
  headers: Record<string, string>,
  body: string | Buffer | undefined,
): Promise<{ status: number; text: string }> => {
  const request = http.request({ host: "127.0.0.1", port, method, path, headers });
  request.end(body);
  const [response] = await once(request, "response");
  let text = "";
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode, text };
};

test("fuzzed paths, queries, bodies and headers never yield a 500, and every refusal is a known problem", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("GET" as const, "POST" as const, "PUT" as const, "DELETE" as const, "PATCH" as const),
      fc.array(segment, { maxLength: 6 }),
      fc.oneof(fc.constant(""), fc.constantFrom("?limit=1", "?limit=%", "?limit=1&limit=2", "?%00", "?=&&")),
      fc.option(payload, { nil: undefined }),
      fc.record(
        {
          "content-type": fc.oneof(fc.constant("application/json"), headerValue),
          traceparent: headerValue,
          "x-request-id": headerValue,
        },
        { requiredKeys: [] },
      ),
      async (method, segments, query, body, headers) => {
        const url = `/${["v1", ...segments].join("/")}${query}`;
        const answer = await send(method, url, { ...bearer, ...headers }, body);
        expect(answer.status).toBeLessThan(500);
        if (answer.status < 400) return;
        const problem = JSON.parse(answer.text);
        expect(Object.keys(errorCatalog)).toContain(problem.code);
        expect(problem.status).toBe(answer.status);
      },
    ),
    { numRuns: 400 },
  );
});
