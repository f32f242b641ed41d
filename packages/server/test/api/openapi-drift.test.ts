import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { statusCodes } from "./catalog.ts";
import { type ApiDocument, operationsOf, type Schema } from "./document.ts";
import { type ApiApp, startApiApp } from "./support.ts";

const file = fileURLToPath(new URL("../../../../docs/openapi.json", import.meta.url));

let app: ApiApp;
let served: string;
let document: ApiDocument;
beforeAll(async () => {
  app = await startApiApp();
  served = await (await fetch(new URL("/openapi.json", app.base))).text();
  document = JSON.parse(served) as ApiDocument;
});
afterAll(() => app.close());

test("docs/openapi.json is the document that is served; UPDATE_SNAPSHOTS=1 rewrites it", () => {
  const text = `${JSON.stringify(document, null, 2)}\n`;
  if (process.env["UPDATE_SNAPSHOTS"] === "1") writeFileSync(file, text);
  expect(existsSync(file), "docs/openapi.json is missing").toBe(true);
  expect(readFileSync(file, "utf8")).toBe(text);
});

test("another process serves the same bytes", async () => {
  const other = await startApiApp({ database: app.database, simulator: app.simulator });
  try {
    expect(await (await fetch(new URL("/openapi.json", other.base))).text()).toBe(served);
  } finally {
    await other.close();
  }
});

/** Every endpoint of api.md §2 and docs/search-and-export.md. */
const endpoints = `
POST /chats
GET /chats
GET /chats/{id}
PATCH /chats/{id}
DELETE /chats/{id}
GET /chats/{id}/messages
GET /chats/{id}/export
GET /search
POST /chats/{id}/messages:stream
PUT /chats/{id}/messages/{msg_id}/reaction
DELETE /chats/{id}/messages/{msg_id}/reaction
GET /chats/{id}/turns/{request_id}
POST /chats/{id}/turns/{request_id}/retry
PATCH /chats/{id}/turns/{request_id}
DELETE /chats/{id}/turns/{request_id}
POST /chats/{id}/turns/{request_id}/cancel
GET /chats/{id}/turns/{request_id}/stream
POST /chats/{id}/attachments
GET /chats/{id}/attachments/{attachment_id}
DELETE /chats/{id}/attachments/{attachment_id}
GET /models
GET /models/{model_id}
GET /quota/status`
  .trim()
  .split("\n");

test("the operations are those of api.md §2 and docs/search-and-export.md, no more and no less", () => {
  const operations = operationsOf(document).map(({ method, path }) => `${method} ${path}`);
  expect(operations.toSorted()).toEqual(endpoints.toSorted());
});

const schemasIn = (value: unknown): readonly Schema[] => {
  if (Array.isArray(value)) return value.flatMap(schemasIn);
  if (typeof value !== "object" || value === null) return [];
  return [value as Schema, ...Object.values(value).flatMap(schemasIn)];
};

describe("the document is OpenAPI 3.1", () => {
  test("with the members it needs, and nothing of JSON Schema that means something else there", () => {
    expect(document.openapi).toBe("3.1.0");
    expect(document.info).toMatchObject({ title: expect.any(String), version: expect.any(String) });
    expect(served).not.toContain("$defs");
    expect(served).not.toContain('"nullable"');
    expect(served).not.toContain('"definitions"');
  });

  test("operation ids are unique, path parameters are declared and required", () => {
    const operations = operationsOf(document);
    const ids = operations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { path, parameters = [] } of operations) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const declared = parameters.filter((one) => one.in === "path");
      expect(declared.map(({ name }) => name)).toEqual(inPath);
      expect(declared.every(({ required }) => required)).toBe(true);
    }
  });

  test("every answer has a description and, unless it is 204, a body with a schema", () => {
    for (const { operationId, responses } of operationsOf(document)) {
      expect(Object.keys(responses).some((status) => status.startsWith("2"))).toBe(true);
      for (const [status, { description, content = {} }] of Object.entries(responses)) {
        expect(description, operationId).not.toBe("");
        const kinds = operationId === "exportChat" && status === "200" ? 2 : 1;
        expect(Object.keys(content), `${operationId} ${status}`).toHaveLength(status === "204" ? 0 : kinds);
        for (const { schema } of Object.values(content)) expect(Object.keys(schema)).not.toEqual([]);
      }
    }
  });

  test("every reference leads to a component, and every component is used", () => {
    const names = Object.keys(document.components.schemas);
    const used = [...served.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name);
    expect([...new Set(used)].toSorted()).toEqual(names.toSorted());
    expect(served.match(/"\$ref":"(?!#\/components\/schemas\/)/)).toBeNull();
  });

  test("required names exist, enums are not empty", () => {
    for (const schema of schemasIn(document)) {
      const required = schema["required"];
      const properties = schema["properties"];
      if (Array.isArray(required) && typeof properties === "object" && properties !== null) {
        expect(Object.keys(properties)).toEqual(expect.arrayContaining(required));
      }
      if (Array.isArray(schema["enum"])) expect(schema["enum"].length).toBeGreaterThan(0);
    }
  });
});

const codesOf = (schema: Schema | undefined): readonly string[] => {
  const found = schemasIn(schema).find((one) => "code" in one && typeof one["code"] === "object");
  return ((found?.["code"] as Schema | undefined)?.["enum"] as string[] | undefined) ?? [];
};

test("every refusal is a problem that lists codes of the catalog for its status", () => {
  for (const { operationId, responses } of operationsOf(document)) {
    for (const [status, { content }] of Object.entries(responses)) {
      if (Number(status) < 400) continue;
      const schema = content?.["application/problem+json"]?.schema;
      const codes = codesOf(schema);
      expect(codes.length, `${operationId} ${status}`).toBeGreaterThan(0);
      for (const code of codes) expect(statusCodes, operationId).toContain(`${status} ${code}`);
    }
  }
});

test("the codes of the component Problem are those of the catalog", () => {
  const codes = [...statusCodes].map((one) => one.split(" ")[1] ?? "");
  expect(codesOf(document.components.schemas["Problem"]).toSorted()).toEqual([...new Set(codes)].toSorted());
});

test("the payload of every stream event is a component, and streams answer with them", () => {
  const events = ["StreamStarted", "Ping", "Delta", "Tool", "Citations", "Done", "Error"];
  const references = events.map((name) => ({ $ref: `#/components/schemas/${name}Event` }));
  const streams = operationsOf(document).flatMap(({ responses }) => {
    const schema = responses["200"]?.content?.["text/event-stream"]?.schema;
    return schema === undefined ? [] : [schema];
  });
  expect(streams.length).toBeGreaterThan(0);
  for (const schema of streams) expect(schema).toEqual({ anyOf: references });
});

test("clients may meet new fields: no answer forbids keys it does not name", () => {
  expect(schemasIn(document).filter((schema) => schema["additionalProperties"] === false)).toEqual([]);
});

test("servers names the API root below the prefix; the document is served below every part of it", async () => {
  expect(document.servers).toEqual([{ url: "/v1" }]);
  const prefixed = await startApiApp({
    database: app.database,
    simulator: app.simulator,
    config: { url_prefix: "/cf/mini-chat" },
  });
  try {
    for (const prefix of ["", "/cf", "/cf/mini-chat"]) {
      const answer = await fetch(new URL(`${prefix}/openapi.json`, prefixed.base));
      expect(answer.headers.get("etag")).toMatch(/^"[^"]+"$/);
      const there = (await answer.json()) as ApiDocument;
      expect(there).toEqual({ ...document, servers: [{ url: "/cf/mini-chat/v1" }] });
    }
  } finally {
    await prefixed.close();
  }
});

test("the ETag makes a repeated read 304 without a body", async () => {
  const url = new URL("/openapi.json", app.base);
  const etag = (await fetch(url)).headers.get("etag") ?? "";
  const again = await fetch(url, { headers: { "if-none-match": etag } });
  expect([again.status, await again.text()]).toEqual([304, ""]);
});

test("/docs is a page that loads nothing from elsewhere and may not", async () => {
  const answer = await fetch(new URL("/docs", app.base));
  const page = await answer.text();
  expect(answer.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(answer.headers.get("content-security-policy")).toMatch(/^default-src 'none';/);
  expect(page).not.toMatch(/https?:|\/\/[a-z]|\b(src|href|import)\b\s*[=(]|@import|url\(/);
});
