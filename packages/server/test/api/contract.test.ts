import { connect } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorCatalog } from "../../src/errors.ts";
import type { Answer } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { situations } from "./catalog.ts";
import { arbitraryBodies, arbitraryMethods, arbitraryRequests } from "./fuzz.ts";
import { makeResources, type Resources, randomResources } from "./operations.ts";
import { startApiApp } from "./support.ts";

const app = await startApiApp({ config: { server: { body_limit_bytes: 65_536 } } });
afterAll(() => app.close());

let known: readonly Resources[];
beforeAll(async () => {
  known = [await makeResources(app), await makeResources(app, callers.bob), randomResources()];
});

test("the codes of errors.ts are the rows of api.md §5.2, each with a status and title it may have", () => {
  const rows = Object.entries(errorCatalog).map(
    ([code, { status, title }]) => `${status} ${code} ${title ?? code}`,
  );
  for (const row of rows) expect(situations).toContain(row);
  const codes = [...situations].map((row) => row.split(" ")[1] ?? "");
  expect(Object.keys(errorCatalog).toSorted()).toEqual([...new Set(codes)].toSorted());
});

/** Sends bytes and reads what comes until the connection closes. */
const exchange = (bytes: string | Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    let received = "";
    const socket = connect(Number(new URL(app.base).port), "127.0.0.1", () => socket.end(bytes));
    socket.setEncoding("latin1").on("data", (text: string) => {
      received += text;
    });
    // A reset after the answer is how a server refuses the rest of what is sent.
    socket.on("error", () => {});
    socket.on("close", () => resolve(received));
  });

const parse = (received: string): { status: number; headers: Headers; body: string } => {
  const [head = "", ...rest] = received.split("\r\n\r\n");
  const [first = "", ...lines] = head.split("\r\n");
  const headers = new Headers(
    lines.map((line) => [line.split(": ", 1)[0] ?? "", line.replace(/^[^:]*: /, "")] as const),
  );
  return { status: Number(first.split(" ")[1]), headers, body: rest.join("\r\n\r\n") };
};

describe("what the HTTP parser or the router refuses", () => {
  const token = "Authorization: Bearer token-ann\r\n";
  const host = "Host: x\r\n";
  const json = "Content-Type: application/json\r\n";
  test.each<[string, string, string]>([
    ["no HTTP", "hello\r\n\r\n", "400 invalid_request"],
    ["an unknown method", `FOO /v1/chats HTTP/1.1\r\n${host}\r\n`, "400 invalid_request"],
    ["no Host", `GET /v1/models HTTP/1.1\r\n${token}\r\n`, "400 invalid_request"],
    [
      "headers that never end",
      `GET /v1/models HTTP/1.1\r\n${host}X: ${"y".repeat(70_000)}\r\n\r\n`,
      "400 invalid_request",
    ],
    ["a path of other bytes", `GET /v1/ch\u00e4ts HTTP/1.1\r\n${host}\r\n`, "400 invalid_request"],
    ["a broken escape", `GET /v1/%zz HTTP/1.1\r\n${host}\r\n`, "400 invalid_request"],
    [
      "a length that is none",
      `POST /v1/chats HTTP/1.1\r\n${host}${json}Content-Length: x\r\n\r\n`,
      "400 invalid_request",
    ],
    [
      "two framings",
      `POST /v1/chats HTTP/1.1\r\n${host}${json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
      "400 invalid_request",
    ],
    ["a tunnel", `CONNECT x:443 HTTP/1.1\r\n${host}\r\n`, "400 invalid_request"],
    [
      "an unknown path",
      `GET /v1/nothing HTTP/1.1\r\n${host}${token}Connection: close\r\n\r\n`,
      "404 route_not_found",
    ],
    [
      "the server as a whole",
      `OPTIONS * HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      "404 route_not_found",
    ],
    [
      "an absolute target with another method",
      `PUT http://x/v1/chats?a HTTP/1.1\r\n${host}${token}Connection: close\r\n\r\n`,
      "405 method_not_allowed",
    ],
    [
      "an escaped path with another method",
      `PUT /v1/ch%61ts HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      "405 method_not_allowed",
    ],
    [
      "a method with a body no route has",
      `QUERY /v1/chats HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
      "405 method_not_allowed",
    ],
    [
      "an expectation, but no token",
      `GET /v1/models HTTP/1.1\r\n${host}Expect: magic\r\nConnection: close\r\n\r\n`,
      "401 unauthorized",
    ],
  ])("%s: a problem like any other", async (_name, bytes, expected) => {
    const { status, headers, body } = parse(await exchange(bytes));
    const problem = JSON.parse(body);
    expect(`${status} ${problem.code}`).toBe(expected);
    expect(situations).toContain(`${status} ${problem.code} ${problem.title}`);
    expect(problem).toMatchObject({
      type: "about:blank",
      status,
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(problem.instance).toMatch(/^[/*]/);
    expect(headers.get("content-type")).toBe("application/problem+json");
    expect(headers.get("x-request-id")).toMatch(/^[\w.-]{1,64}$/);
    expect(headers.get("cache-control")).toBe("no-store");
  });

  test.each<[string, string]>([
    [
      "an expectation nobody knows",
      `GET /v1/models HTTP/1.1\r\n${host}${token}Expect: magic\r\nConnection: close\r\n\r\n`,
    ],
    [
      "an upgrade nobody offers",
      `GET /v1/models HTTP/1.1\r\n${host}${token}Upgrade: websocket\r\nConnection: close, Upgrade\r\n\r\n`,
    ],
    ["HTTP/1.0 without a Host", `GET /v1/models HTTP/1.0\r\n${token}\r\n`],
    ["an absolute target", `GET http://x/v1/models HTTP/1.1\r\n${host}${token}Connection: close\r\n\r\n`],
    [
      "an unwanted body",
      `GET /v1/models HTTP/1.1\r\n${host}${token}Content-Length: 1\r\nConnection: close\r\n\r\n{`,
    ],
  ])("%s does no harm", async (_name, bytes) => {
    expect(parse(await exchange(bytes)).status).toBe(200);
  });
});

test("no request whatever yields a 500, and every answer keeps the contract", async () => {
  const seen = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(arbitraryRequests(app, known), async (request) => {
      const { status }: Answer = await app.raw(request);
      seen.set(status, (seen.get(status) ?? 0) + 1);
      expect(status, JSON.stringify(request)).not.toBe(500);
    }),
    { numRuns: 1_500 },
  );
  // The fuzzer reaches what it is for: successes and every kind of refusal.
  for (const status of [200, 201, 400, 401, 403, 404, 405, 415, 422])
    expect([...seen.keys()]).toContain(status);
}, 120_000);

test("no bytes whatever on a connection yield a 500 or stop the server", async () => {
  const line = fc.oneof(
    fc.string({ unit: "binary-ascii", maxLength: 40 }),
    fc.constantFrom(
      "GET /v1/chats HTTP/1.1",
      "POST /v1/chats HTTP/1.1",
      "Host: x",
      "Authorization: Bearer token-ann",
      "Content-Length: 2",
      "Content-Length: 99",
      "Transfer-Encoding: chunked",
      "Content-Type: application/json",
      "",
      "{}",
      "2\r\n{}",
      "0",
      "Connection: close",
    ),
  );
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.array(line, { maxLength: 8 }).map((lines) => `${lines.join("\r\n")}\r\n\r\n`),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (sent) => {
      const received = await exchange(sent);
      for (const [, status] of received.matchAll(/^HTTP\/1\.1 (\d+)/gm)) expect(status).not.toBe("500");
    }),
    { numRuns: 200 },
  );
  expect((await app.call("GET", "/models")).status).toBe(200);
});

test("the ops listener does not yield a 500 either", async () => {
  const root = new URL(app.opsBase);
  await fc.assert(
    fc.asyncProperty(
      arbitraryMethods,
      fc.constantFrom(
        "/health",
        "/healthz",
        "/readyz",
        "/metrics",
        "/internal/policy:notify",
        "/admin/v1/outbox/dead-letters",
        "/x",
        "/%zz",
      ),
      fc.constantFrom("", "Bearer internal-token-of-tests", "Bearer admin-token-of-tests", "Bearer x"),
      fc.oneof(
        arbitraryBodies(app),
        fc.constant('{"tenant_id":"0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f","policy_version":1}'),
      ),
      async (method, path, authorization, body) => {
        const response = await fetch(new URL(path, root), {
          method: method === "TRACE" ? "GET" : method,
          headers: { "content-type": "application/json", ...(authorization === "" ? {} : { authorization }) },
          ...(["GET", "HEAD", "TRACE"].includes(method) ? {} : { body: body as string }),
        });
        expect(response.status, `${method} ${path} ${await response.text()}`).not.toBe(500);
      },
    ),
    { numRuns: 200 },
  );
});
