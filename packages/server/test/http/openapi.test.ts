import { expect, test } from "vitest";
import { z } from "zod";
import { eventStream, noContent, problems } from "../../src/http/openapi.ts";
import { listQuery, pageOf } from "../../src/http/paging.ts";
import type { ApiServer } from "../../src/http/server.ts";
import { int64, timestampOut, uuid, uuidOut } from "../../src/http/validate.ts";
import { bearer, testServer } from "./support.ts";

const chat = z
  .object({ id: uuidOut(), title: z.string().optional(), message_count: int64(), created_at: timestampOut() })
  .meta({ id: "TestChat" });
const started = z.object({ request_id: uuidOut() }).meta({ id: "TestStarted" });
const done = z.object({ usage: z.object({ input_tokens: z.int() }).nullable() }).meta({ id: "TestDone" });

const routes = (api: ApiServer): void => {
  const params = z.object({ id: uuid() });
  api.get(
    "/chats/:id",
    {
      schema: {
        summary: "Read a chat",
        tags: ["chats"],
        params,
        response: { 200: chat, ...problems("chat_not_found", "forbidden", "invalid_filter") },
      },
    },
    async (request) => ({ id: request.params.id, message_count: 1n, created_at: "2026-03-01T10:15:31Z" }),
  );
  api.get("/chats", { schema: { querystring: listQuery(), response: { 200: pageOf(chat) } } }, async () => ({
    items: [],
    page_info: { limit: 20, next_cursor: null, prev_cursor: null },
  }));
  api.delete("/chats/:id", { schema: { params, response: { 204: noContent() } } }, async (_request, reply) =>
    reply.code(204).send(),
  );
  api.post(
    "/chats/:id/messages::stream",
    {
      config: { stream: true, refuseWhileDraining: true },
      schema: {
        params,
        querystring: z.object({ on_disconnect: z.enum(["cancel", "continue"]).optional() }),
        body: z.object({ content: z.string(), request_id: uuid().optional() }).meta({ id: "TestSend" }),
        response: { 200: eventStream("The answer.", [started, done]), ...problems("quota_exceeded") },
      },
    },
    async () => {},
  );
};

interface Operation {
  responses: Record<string, { description: string; content?: Record<string, { schema: object }> }>;
  parameters?: { name: string; in: string; required: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  summary?: string;
}

interface Document {
  openapi: string;
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { properties: Record<string, unknown>; required?: string[] }> };
}

const load = async (url_prefix = "", docs_enabled = true) => {
  const server = testServer(routes, { url_prefix, server: { docs_enabled } });
  await server.app.ready();
  return { server, document: server.openapi() as Document };
};

test("the document names the prefix, the paths as clients call them, and only API operations", async () => {
  const { document } = await load("/cf/mini-chat");
  expect(document.openapi).toBe("3.1.0");
  expect(document.servers).toEqual([{ url: "/cf/mini-chat/v1" }]);
  expect(Object.keys(document.paths)).toEqual(["/chats", "/chats/{id}", "/chats/{id}/messages:stream"]);
  expect(Object.keys(document.paths["/chats/{id}"] ?? {})).toEqual(["get", "delete"]);
});

test("an operation lists its own codes and those every operation has, by status", async () => {
  const { document } = await load();
  const read = document.paths["/chats/{id}"]?.get?.responses ?? {};
  const codes = Object.fromEntries(
    Object.entries(read).map(([status, { description }]) => [status, description.split(", ").toSorted()]),
  );
  expect(codes).toEqual({
    200: ["Success."],
    400: ["invalid_filter", "invalid_request"],
    401: ["unauthorized"],
    403: ["feature_not_licensed", "forbidden"],
    404: ["chat_not_found"],
    422: ["invalid_filter"],
    429: ["too_many_requests"],
    500: ["internal_error"],
    503: ["service_unavailable"],
    504: ["request_timeout"],
  });
  expect(read[404]?.content?.["application/problem+json"]?.schema).toEqual({
    allOf: [{ $ref: "#/components/schemas/Problem" }, { properties: { code: { enum: ["chat_not_found"] } } }],
  });
});

test("a stream has no time-out, refuses while draining, and refers to its event payloads", async () => {
  const { document } = await load();
  const send = document.paths["/chats/{id}/messages:stream"]?.post;
  expect(Object.keys(send?.responses ?? {})).not.toContain("504");
  expect(send?.responses[503]?.description).toBe("service_unavailable, shutting_down");
  expect(send?.responses[413]?.description).toBe("body_too_large");
  expect(send?.responses[200]?.content).toEqual({
    "text/event-stream": {
      schema: {
        anyOf: [{ $ref: "#/components/schemas/TestStarted" }, { $ref: "#/components/schemas/TestDone" }],
      },
    },
  });
  expect(send?.requestBody?.content["application/json"]?.schema).toEqual({
    $ref: "#/components/schemas/TestSend",
  });
  expect(send?.parameters?.map(({ name, in: place, required }) => [name, place, required])).toEqual([
    ["id", "path", true],
    ["on_disconnect", "query", false],
  ]);
});

test("components are the very schemas: formats, int64, optional fields", async () => {
  const { document } = await load();
  const { TestChat } = document.components.schemas;
  expect(TestChat?.properties).toEqual({
    id: { type: "string", format: "uuid" },
    title: { type: "string" },
    message_count: { type: "integer", format: "int64" },
    created_at: { type: "string", format: "date-time" },
  });
  expect(TestChat?.required).toEqual(["id", "message_count", "created_at"]);
});

test("a page may leave fields of its items out; limit is documented as the integer it is", async () => {
  const { document } = await load();
  const list = document.paths["/chats"]?.get;
  const schema = list?.responses[200]?.content?.["application/json"]?.schema;
  expect(schema).toMatchObject({
    properties: { items: { items: { properties: { id: { type: "string", format: "uuid" } } } } },
  });
  expect(JSON.stringify(schema)).not.toContain('"required":["id"');
  expect(list?.parameters?.[0]).toMatchObject({
    name: "limit",
    required: false,
    schema: { type: "integer", minimum: 1, maximum: 100, default: 20 },
  });
});

test("every reference leads somewhere", async () => {
  const { document } = await load();
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
  expect(references.length).toBeGreaterThan(0);
  for (const [, name = ""] of references) expect(document.components.schemas).toHaveProperty([name]);
});

test("/openapi.json is served at the root and below every part of the prefix, with an ETag", async () => {
  const { server, document } = await load("/cf/mini-chat");
  for (const prefix of ["", "/cf", "/cf/mini-chat"]) {
    const answer = await server.app.inject({ url: `${prefix}/openapi.json` });
    expect(answer.json()).toEqual(JSON.parse(JSON.stringify(document)));
    const again = await server.app.inject({
      url: `${prefix}/openapi.json`,
      headers: { "if-none-match": String(answer.headers.etag) },
    });
    expect([again.statusCode, again.body]).toEqual([304, ""]);
  }
});

test("/docs is one page without external assets", async () => {
  const { server } = await load();
  const page = await server.app.inject({ url: "/docs" });
  expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
  expect(page.headers["content-security-policy"]).toContain("default-src 'none'");
  expect(page.body).not.toMatch(/https?:\/\/|src=|href=/);
});

test("document and viewer can be switched off", async () => {
  const { server } = await load("", false);
  for (const url of ["/openapi.json", "/docs"]) {
    expect((await server.app.inject({ url })).json().code).toBe("route_not_found");
  }
});

test("a route that answers against its schema works, and 204 has no body", async () => {
  const { server } = await load();
  const url = "/v1/chats/0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";
  const read = await server.app.inject({ url, headers: bearer });
  expect(read.json()).toMatchObject({ message_count: 1 });
  const gone = await server.app.inject({ method: "DELETE", url, headers: bearer });
  expect([gone.statusCode, gone.body]).toEqual([204, ""]);
});
