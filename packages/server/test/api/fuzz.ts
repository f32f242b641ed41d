import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { callers } from "../support/config.ts";
import { expectationOf, pathOf, type Resources } from "./operations.ts";
import { type ApiApp, moreCallers, type RawRequest } from "./support.ts";

/** Names of things that exist, belong to others, or do not exist. */
const ids = (known: readonly Resources[]): fc.Arbitrary<string> => {
  const all = known.flatMap((of) => Object.values(of));
  return fc.oneof(
    fc.constantFrom(...all),
    fc.uuid(),
    fc.constantFrom("x", "%00", "..", "%2F", "a%2Fb", "%F0%9F%98%80", ""),
  );
};

const escaped = (text: string): string => encodeURIComponent(text.toWellFormed());

/** Paths of operations with any ids, paths that are nearly theirs, and any others. */
const paths = (app: ApiApp, known: readonly Resources[]): fc.Arbitrary<string> => {
  const { operations } = app.contract;
  const real = fc
    .tuple(fc.constantFrom(...operations), fc.constantFrom(...known))
    .map(([operation, of]) => pathOf(operation, of));
  const filled = fc
    .tuple(fc.constantFrom(...operations), fc.array(ids(known), { minLength: 3, maxLength: 3 }))
    .map(([{ path }, of]) => path.replace(/\{\w+\}/g, () => of.pop() ?? ""));
  const mutated = fc
    .tuple(
      filled,
      fc.nat(200),
      fc.constantFrom("/", "%", "%2", "%ff", ":", "::", "//", "?", "#", "*", "%3a", ".", ";", "A", "\\"),
    )
    .map(([path, at, piece]) => path.slice(0, at) + piece + path.slice(at));
  const any = fc
    .array(fc.string({ unit: "binary", maxLength: 6 }).map(escaped), { maxLength: 6 })
    .map((parts) => `/${parts.join("/")}`);
  return fc.oneof(
    { weight: 3, arbitrary: real.map((path) => `/v1${path}`) },
    { weight: 3, arbitrary: filled.map((path) => `/v1${path}`) },
    { weight: 2, arbitrary: mutated.map((path) => `/v1${path}`) },
    any,
    any.map((path) => `/v1${path}`),
    fc.constantFrom(
      "/",
      "/health",
      "/healthz",
      "/openapi.json",
      "/docs",
      "/metrics",
      "/internal/policy:notify",
      "//",
      "/v1",
    ),
  );
};

const queries = (): fc.Arbitrary<string> => {
  const words = fc.array(
    fc.constantFrom(
      "id",
      "title",
      "role",
      "updated_at",
      "created_at",
      "eq",
      "ne",
      "in",
      "and",
      "or",
      "not",
      "(",
      ")",
      ",",
      "'a'",
      "null",
      "desc",
      "asc",
      "1e9",
      "2026-03-01",
      "2026-03-01T00:00:60Z",
      "contains(title,'%')",
      randomUUID(),
    ),
    { maxLength: 8 },
  );
  const value = fc.oneof(
    words.map((some) => escaped(some.join(" "))),
    fc.string({ unit: "binary", maxLength: 8 }).map(escaped),
    fc.integer().map(String),
    fc.base64String({ maxLength: 60 }),
    fc.constantFrom("%", "%zz", "%C3", "%00", "%ED%A0%80", "+", "a=b", "&"),
  );
  const key = fc.constantFrom(
    "limit",
    "cursor",
    "$filter",
    "$orderby",
    "$select",
    "%24filter",
    "after",
    "q",
    "format",
    "on_disconnect",
    "if_turn_updated_at",
    "x",
    "__proto__",
  );
  return fc
    .array(fc.tuple(key, value), { maxLength: 4 })
    .map((pairs) => pairs.map(([name, text]) => `${name}=${text}`).join("&"))
    .map((query) => (query === "" ? "" : `?${query}`));
};

const headers = (): fc.Arbitrary<Record<string, string>> => {
  const bearer = (token: string): string => `Bearer ${token}`;
  const visible = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 30 });
  return fc.record(
    {
      authorization: fc.oneof(
        { weight: 12, arbitrary: fc.constant(bearer(callers.ann.token)) },
        fc.constantFrom(...[callers.bob, ...Object.values(moreCallers)].map(({ token }) => bearer(token))),
        visible,
      ),
      "content-type": fc.oneof(
        { weight: 8, arbitrary: fc.constant("application/json") },
        fc.constantFrom(
          "application/json; charset=utf-8",
          "text/plain",
          "multipart/form-data; boundary=x",
          "multipart/form-data",
          "application/octet-stream",
          ";",
          "a/b/c",
        ),
        visible,
      ),
      "x-request-id": visible,
      traceparent: fc.oneof(visible, fc.constant("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
      "last-event-id": fc.oneof(visible, fc.integer().map(String)),
      "accept-encoding": fc.constantFrom("gzip", "br, gzip;q=0", "*", "identity"),
      accept: fc.constantFrom("text/event-stream", "text/html", "*/*", "x"),
      "accept-version": visible,
      "if-none-match": visible,
      expect: fc.constantFrom("100-continue", "magic"),
      origin: fc.constantFrom("https://example.com", "null", "x"),
      "x-http-method-override": fc.constantFrom("DELETE", "PATCH"),
      "x-forwarded-host": visible,
    },
    { requiredKeys: [] },
  );
};

/** Bodies of operations, nearly those, and anything else. */
export const arbitraryBodies = (app: ApiApp): fc.Arbitrary<string | Uint8Array> => {
  const bodiesOfOperations = app.contract.operations.flatMap((operation) => {
    const body = operation.jsonBody === null ? undefined : expectationOf(operation).body?.();
    return body === undefined ? [] : [body];
  });
  const field = fc.constantFrom(
    "title",
    "model",
    "is_temporary",
    "content",
    "request_id",
    "attachment_ids",
    "web_search",
    "on_disconnect",
    "reaction",
    "__proto__",
    "constructor",
  );
  const value = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: "binary" }),
    fc.uuid(),
    fc.array(fc.uuid(), { maxLength: 3 }),
    fc.constantFrom("PING", "standard", "like", { enabled: true }),
  );
  const changed = fc
    .tuple(fc.constantFrom(...bodiesOfOperations), fc.dictionary(field, value, { maxKeys: 3 }))
    .map(([body, changes]) => JSON.stringify({ ...body, ...changes }));
  return fc.oneof(
    { weight: 4, arbitrary: changed },
    { weight: 2, arbitrary: fc.constantFrom(...bodiesOfOperations).map((body) => JSON.stringify(body)) },
    fc.json(),
    fc.string({ unit: "binary" }),
    fc.uint8Array(),
    fc.constantFrom(
      "",
      "{",
      `{"title":${"[".repeat(5_000)}${"]".repeat(5_000)}}`,
      `{"content":"${"x".repeat(70_000)}"}`,
    ),
  );
};

/** Methods the API has, more often than those it has not. */
export const arbitraryMethods = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom("GET", "POST", "PUT", "PATCH", "DELETE") },
  fc.constantFrom("HEAD", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "QUERY", "M-SEARCH"),
);

/** Requests of all kinds, many of them nearly right. */
export const arbitraryRequests = (app: ApiApp, known: readonly Resources[]): fc.Arbitrary<RawRequest> => {
  const right = fc
    .tuple(fc.constantFrom(...app.contract.operations), fc.constantFrom(...known))
    .map(([{ method, path }, of]) => ({
      method,
      target: `/v1${pathOf({ method, path } as Parameters<typeof pathOf>[0], of)}`,
    }));
  const place = fc.oneof(
    right,
    fc.record({
      method: arbitraryMethods,
      target: fc.tuple(paths(app, known), queries()).map(([path, query]) => path + query),
    }),
  );
  const body = fc.option(arbitraryBodies(app), { nil: undefined });
  return fc
    .tuple(place, headers(), body)
    .map(([where, fields, content]) => ({ ...where, headers: fields, body: content }));
};
