import { expect, test } from "vitest";
import { z } from "zod";
import { AppError } from "../../src/errors.ts";
import type { ApiServer } from "../../src/http/server.ts";
import { int64, uuid } from "../../src/http/validate.ts";
import { bearer, recordingLogger, testServer } from "./support.ts";

const routes = (api: ApiServer): void => {
  const params = z.object({ id: uuid() });
  const sendBody = z.object({
    content: z.string(),
    request_id: uuid().optional(),
    web_search: z.object({ enabled: z.boolean() }).optional(),
    nothing: z.string().optional(),
  });
  api.post(
    "/chats",
    { schema: { body: z.object({ title: z.string().optional() }) } },
    async (request) => request.body,
  );
  api.get(
    "/chats/:id",
    { schema: { params, response: { 200: z.object({ id: z.string(), n: int64() }) } } },
    async (request) => ({
      id: request.params.id,
      n: 9_007_199_254_740_993n,
    }),
  );
  api.delete("/chats/:id", { schema: { params } }, async (_request, reply) => reply.code(204).send());
  api.post(
    "/chats/:id/messages::stream",
    { schema: { params, body: sendBody } },
    async (request) => request.body,
  );
  api.post(
    "/chats/:id/cancel",
    {
      schema: { params, querystring: z.object({ on_disconnect: z.enum(["cancel", "continue"]).optional() }) },
    },
    async (request) => request.query,
  );
  api.get("/whoami", async (request) => ({ user: request.actor.userId, trace: request.traceId }));
  api.get("/broken", async () => {
    throw new Error("secret detail of postgres://user:pw@host");
  });
  api.get("/unavailable", async () => {
    throw new AppError("service_unavailable", { detail: "The policy is not available." });
  });
  api.get("/quota", async () => {
    throw new AppError("quota_exceeded", { quotaScope: "tokens" });
  });
  api.get("/context", async () => {
    throw new AppError("context_budget_exceeded", { context: { required_tokens: 9, available_tokens: 4 } });
  });
  api.get(
    "/models/:model_id",
    { schema: { params: z.object({ model_id: z.string() }) } },
    async (request) => request.params,
  );
};

const id = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";
const json = { ...bearer, "content-type": "application/json" };

const { app } = testServer(routes, { server: { body_limit_bytes: 65_536 } });

const big = JSON.stringify({ content: "x".repeat(70_000) });

test.each<[string, object, number, string, string]>([
  ["unknown path", { method: "GET", url: "/v1/nothing" }, 404, "route_not_found", "Not Found"],
  ["trailing slash", { method: "GET", url: "/v1/whoami/" }, 404, "route_not_found", "Not Found"],
  ["other letter case", { method: "GET", url: "/v1/Whoami" }, 404, "route_not_found", "Not Found"],
  ["empty id", { method: "GET", url: "/v1/chats/" }, 404, "route_not_found", "Not Found"],
  ["outside the prefix", { method: "GET", url: "/chats" }, 404, "route_not_found", "Not Found"],
  [
    "known path, other method",
    { method: "PUT", url: "/v1/chats" },
    405,
    "method_not_allowed",
    "Method Not Allowed",
  ],
  ["HEAD", { method: "HEAD", url: "/v1/whoami" }, 405, "method_not_allowed", "Method Not Allowed"],
  [
    "broken percent-encoding in the path",
    { method: "GET", url: "/v1/chats/%E0%A4%A" },
    400,
    "invalid_request",
    "Bad Request",
  ],
  ["no token", { method: "GET", url: "/v1/whoami", headers: {} }, 401, "unauthorized", "Unauthorized"],
  [
    "no token and a bad body",
    { method: "POST", url: "/v1/chats", headers: {}, payload: "{" },
    401,
    "unauthorized",
    "Unauthorized",
  ],
  [
    "no media type",
    { method: "POST", url: "/v1/chats", headers: bearer },
    415,
    "invalid_request",
    "Unsupported Media Type",
  ],
  [
    "other media type",
    { method: "POST", url: "/v1/chats", headers: { ...bearer, "content-type": "text/plain" }, payload: "{}" },
    415,
    "invalid_request",
    "Unsupported Media Type",
  ],
  [
    "other charset",
    {
      method: "POST",
      url: "/v1/chats",
      headers: { ...bearer, "content-type": "application/json; charset=latin1" },
      payload: "{}",
    },
    415,
    "invalid_request",
    "Unsupported Media Type",
  ],
  [
    "malformed media type",
    { method: "POST", url: "/v1/chats", headers: { ...bearer, "content-type": "json" }, payload: "{}" },
    415,
    "invalid_request",
    "Unsupported Media Type",
  ],
  [
    "wrong media type before a bad id",
    { method: "POST", url: "/v1/chats/x/messages:stream", headers: bearer, payload: "{}" },
    415,
    "invalid_request",
    "Unsupported Media Type",
  ],
  [
    "no JSON",
    { method: "POST", url: "/v1/chats", headers: json, payload: "{" },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "empty body",
    { method: "POST", url: "/v1/chats", headers: json, payload: "" },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "invalid UTF-8",
    { method: "POST", url: "/v1/chats", headers: json, payload: Buffer.from([0x22, 0xff, 0x22]) },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "lone surrogate",
    { method: "POST", url: "/v1/chats", headers: json, payload: '{"title":"\\ud800"}' },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "U+0000",
    { method: "POST", url: "/v1/chats", headers: json, payload: '{"title":"a\\u0000"}' },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "too large",
    { method: "POST", url: "/v1/chats", headers: json, payload: big },
    413,
    "body_too_large",
    "Content Too Large",
  ],
  [
    "no object",
    { method: "POST", url: "/v1/chats", headers: json, payload: "[]" },
    422,
    "invalid_request",
    "Unprocessable Content",
  ],
  [
    "null",
    { method: "POST", url: "/v1/chats", headers: json, payload: "null" },
    422,
    "invalid_request",
    "Unprocessable Content",
  ],
  ["path id no UUID", { method: "GET", url: "/v1/chats/x" }, 400, "invalid_request", "Bad Request"],
  [
    "bad path id before a bad field",
    { method: "POST", url: "/v1/chats/x/messages:stream", headers: json, payload: "{}" },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "bad query value",
    { method: "POST", url: `/v1/chats/${id}/cancel?on_disconnect=maybe` },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "query key given twice",
    { method: "POST", url: `/v1/chats/${id}/cancel?on_disconnect=cancel&on_disconnect=cancel` },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "broken percent-encoding in the query",
    { method: "POST", url: `/v1/chats/${id}/cancel?on_disconnect=%zz` },
    400,
    "invalid_request",
    "Bad Request",
  ],
  [
    "U+0000 in the query",
    { method: "POST", url: `/v1/chats/${id}/cancel?on_disconnect=%00` },
    400,
    "invalid_request",
    "Bad Request",
  ],
  ["an exception", { method: "GET", url: "/v1/broken" }, 500, "internal_error", "Internal Error"],
])("%s", async (_name, request, status, code, title) => {
  const answer = await app.inject({ headers: bearer, ...request });
  expect(answer.statusCode).toBe(status);
  expect(answer.headers["content-type"]).toBe("application/problem+json");
  expect(answer.headers["cache-control"]).toBe("no-store");
  expect(answer.headers["x-request-id"]).toMatch(/^[\w.-]{1,64}$/);
  if ("method" in request && request.method === "HEAD") return;
  const problem = answer.json();
  expect(problem).toMatchObject({ type: "about:blank", status, code, title });
  expect(problem.trace_id).toMatch(/^[0-9a-f]{32}$/);
  expect(String("url" in request ? request.url : "").startsWith(problem.instance)).toBe(true);
  expect(problem.instance).not.toContain("?");
});

test("each wrong field of a body is named", async () => {
  const answer = await app.inject({
    method: "POST",
    url: `/v1/chats/${id}/messages:stream`,
    headers: json,
    payload: { content: null, request_id: "x", web_search: { enabled: "yes" }, other: 1 },
  });
  expect(answer.statusCode).toBe(422);
  expect(answer.json().errors).toEqual([
    { field: "content", message: "is required" },
    { field: "request_id", message: "must be a UUID" },
    { field: "web_search.enabled", message: "expected boolean, received string" },
  ]);
});

test("null in an optional field is the same as absent, unknown fields are ignored, the last duplicate counts", async () => {
  const answer = await app.inject({
    method: "POST",
    url: `/v1/chats/${id.toUpperCase()}/messages:stream`,
    headers: json,
    payload: `{"content":"a","content":" b ","nothing":null,"request_id":"${id.toUpperCase()}","new_field":[null]}`,
  });
  expect(answer.json()).toEqual({ content: " b ", request_id: id });
});

test.each(["%3A", "%3a", ":"])("messages%sstream is the stream route", async (colon) => {
  const answer = await app.inject({
    method: "POST",
    url: `/v1/chats/${id}/messages${colon}stream`,
    headers: json,
    payload: { content: "x" },
  });
  expect(answer.statusCode).toBe(200);
});

test("an id in a path is decoded once", async () => {
  const answer = await app.inject({ url: "/v1/models/a%2Fb%253A:c", headers: bearer });
  expect(answer.json()).toEqual({ model_id: "a/b%3A:c" });
});

test.each(["application/json", "application/json; charset=UTF-8", "application/merge-patch+json"])(
  "%s is JSON",
  async (type) => {
    const headers = { ...bearer, "content-type": type };
    const answer = await app.inject({ method: "POST", url: "/v1/chats", headers, payload: "{}" });
    expect(answer.statusCode).toBe(200);
  },
);

test.each<[string, object]>([
  ["of any type", { headers: { ...bearer, "content-type": "text/plain" }, payload: "not json" }],
  ["without a type", { headers: bearer, payload: "not json" }],
  ["that would be too large", { headers: json, payload: big }],
])("where none is expected a body %s is ignored", async (_name, request) => {
  for (const method of ["POST", "DELETE"] as const) {
    const url = method === "POST" ? `/v1/chats/${id}/cancel` : `/v1/chats/${id}`;
    const answer = await app.inject({ method, url, ...request });
    expect(answer.statusCode).toBeLessThan(300);
  }
});

test("a body nested a million times deep is answered, not a crash", async () => {
  const { app: roomy } = testServer(routes);
  const payload = `{"title":${"[".repeat(1_000_000)}"\\u0041"${"]".repeat(1_000_000)}}`;
  const answer = await roomy.inject({ method: "POST", url: "/v1/chats", headers: json, payload });
  expect([400, 422]).toContain(answer.statusCode);
});

test.each<[string, string]>([
  [
    "members that are null",
    `{"title":"x",${Array.from({ length: 10_000 }, (_, n) => `"m${n}":null`).join()}}`,
  ],
  ["elements of a list", `{"title":"x","list":[${"0,".repeat(10_000)}0]}`],
  ["empty objects", `{"title":"x","list":[${"{},".repeat(5_000)}{}]}`],
])("a body of more than 10 000 values is refused before it is parsed: %s", async (_name, payload) => {
  const { app: roomy } = testServer(routes);
  const answer = await roomy.inject({ method: "POST", url: "/v1/chats", headers: json, payload });
  expect(answer.statusCode).toBe(400);
  expect(answer.json().detail).toBe("The body holds more than 10000 values.");
});

test.each<[string, string]>([
  ["commas and brackets", ",[{".repeat(20_000)],
  ["escaped quotes", '",'.repeat(20_000)],
  ["backslashes before the end", "\\,".repeat(20_001)],
])("a long text is one value, whatever it holds: %s", async (_name, title) => {
  const { app: roomy } = testServer(routes);
  const payload = JSON.stringify({ title });
  const answer = await roomy.inject({ method: "POST", url: "/v1/chats", headers: json, payload });
  expect(answer.json()).toEqual({ title });
});

test("an unknown path with a body that is no JSON is still just unknown", async () => {
  const answer = await app.inject({ method: "PUT", url: "/v1/nothing", headers: json, payload: "{" });
  expect(answer.json().code).toBe("route_not_found");
});

test("Allow names the methods of the path", async () => {
  const answer = await app.inject({ method: "PATCH", url: `/v1/chats/${id}`, headers: bearer });
  expect(answer.headers.allow).toBe("DELETE, GET");
});

test("int64 amounts are JSON numbers with all their digits", async () => {
  const answer = await app.inject({ url: `/v1/chats/${id}`, headers: bearer });
  expect(answer.body).toBe(`{"id":"${id}","n":9007199254740993}`);
});

test("an unexpected error is opaque to the client and logged with its trace id", async () => {
  const { logger, lines } = recordingLogger();
  const server = testServer(routes, {}, { logger });
  const answer = await server.app.inject({ url: "/v1/broken", headers: bearer });
  expect(answer.body).not.toContain("secret");
  const line = lines.find(({ msg }) => msg === "request failed");
  expect(line).toMatchObject({ level: "error", trace_id: answer.json().trace_id });
  expect(line?.err).toBeInstanceOf(Error);
});

test("a foreign error can be translated into a refusal", async () => {
  const server = testServer(routes, {}, { translateError: () => new AppError("service_unavailable") });
  const answer = await server.app.inject({ url: "/v1/broken", headers: bearer });
  expect(answer.statusCode).toBe(503);
});

test.each<[string, string, object]>([
  ["every 503 carries Retry-After", "/v1/unavailable", { "retry-after": "5" }],
  ["quota_exceeded does not", "/v1/quota", {}],
])("%s", async (_name, url, headers) => {
  const answer = await app.inject({ url, headers: bearer });
  expect(answer.headers["retry-after"]).toBe(Reflect.get(headers, "retry-after"));
});

test("a 401 asks for a bearer token", async () => {
  expect((await app.inject({ url: "/v1/whoami" })).headers["www-authenticate"]).toBe("Bearer");
});

test("quota scope and context are members of the problem", async () => {
  const quota = await app.inject({ url: "/v1/quota", headers: bearer });
  expect(quota.json()).toMatchObject({
    code: "quota_exceeded",
    title: "quota_exceeded",
    quota_scope: "tokens",
  });
  const context = await app.inject({ url: "/v1/context", headers: bearer });
  expect(context.json().context).toEqual({ required_tokens: 9, available_tokens: 4 });
});

test("x-request-id is taken over when well-formed, else made", async () => {
  const mine = await app.inject({ url: "/v1/whoami", headers: { ...bearer, "x-request-id": "my.id-1_x" } });
  expect(mine.headers["x-request-id"]).toBe("my.id-1_x");
  for (const bad of ["", "a b", "x".repeat(65), "ä"]) {
    const other = await app.inject({ url: "/v1/whoami", headers: { ...bearer, "x-request-id": bad } });
    expect(other.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
  }
});

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

test.each<[string, string, boolean]>([
  ["a valid traceparent is continued", parent, true],
  ["a later version too", `cc${parent.slice(2)}-more`, true],
  ["version ff starts a new trace", `ff${parent.slice(2)}`, false],
  ["more fields in version 00 do", `${parent}-more`, false],
  ["upper case does", parent.toUpperCase(), false],
  ["a zero trace id does", `00-${"0".repeat(32)}-b7ad6b7169203331-01`, false],
  ["a zero parent id does", `00-0af7651916cd43dd8448eb211c80319c-${"0".repeat(16)}-01`, false],
])("%s", async (_name, traceparent, continued) => {
  const answer = await app.inject({ url: "/v1/whoami", headers: { ...bearer, traceparent } });
  expect(answer.json().trace === "0af7651916cd43dd8448eb211c80319c").toBe(continued);
  expect(answer.headers.traceparent).toMatch(new RegExp(`^00-${answer.json().trace}-[0-9a-f]{16}-0[01]$`));
});
