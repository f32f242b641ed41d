import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/app.ts";
import { badBodies } from "./bad-values.ts";
import type { Operation } from "./document.ts";
import { expectationOf, makeResources, pathOf, type Resources } from "./operations.ts";
import { type ApiApp, dataDigest, startApiApp } from "./support.ts";

const bodyLimit = 65_536;
const app: ApiApp = await startApiApp({ config: { server: { body_limit_bytes: bodyLimit } } });
afterAll(() => app.close());

const acceptedBody = (operation: Operation): Readonly<Record<string, unknown>> => {
  const body = expectationOf(operation).body?.();
  if (body === undefined || body instanceof FormData) throw new Error(`${operation.path} has no JSON body`);
  return body;
};

const withBody = app.contract.operations.flatMap((operation) =>
  operation.jsonBody === null
    ? []
    : [
        {
          name: `${operation.method} ${operation.path}`,
          operation,
          bodies: badBodies(app.contract.document, operation.jsonBody, acceptedBody(operation)),
        },
      ],
);

let mine: Resources;
beforeAll(async () => {
  mine = await makeResources(app);
});

const post = (
  operation: Operation,
  body: string | Uint8Array,
  {
    of = mine,
    headers = {},
    query = "",
  }: { of?: Resources; headers?: Record<string, string>; query?: string } = {},
): Promise<Answer> =>
  app.raw({
    method: operation.method,
    target: `/v1${pathOf(operation, of)}${query}`,
    headers: { authorization: "Bearer token-ann", "content-type": "application/json", ...headers },
    body,
  });

/** Fails unless the request is refused like this and nothing is written. */
const expectRefusal = async (
  refusals: readonly string[],
  request: () => Promise<Answer>,
): Promise<Answer> => {
  const before = await dataDigest(app.db);
  const answer = await request();
  const { status, body } = answer;
  expect(refusals, JSON.stringify(body)).toContain(`${status} ${body.title}`);
  expect(await dataDigest(app.db)).toEqual(before);
  return answer;
};

test("the generator covers every field of every request object of api.md §3.1", () => {
  const fields = withBody.map(({ name, operation }) => {
    const properties = (operation.jsonBody?.["properties"] ?? {}) as object;
    return `${name}: ${Object.keys(properties).join(" ")}`;
  });
  expect(fields).toEqual(
    expect.arrayContaining([
      "POST /chats: title model is_temporary",
      "PATCH /chats/{id}: title",
      "POST /chats/{id}/messages:stream: content request_id attachment_ids web_search on_disconnect",
    ]),
  );
  for (const { bodies } of withBody) expect(bodies.length).toBeGreaterThan(10);
});

describe.each(withBody)("$name", ({ operation, bodies }) => {
  test.each(bodies)("refuses $name", async ({ text, refusals }) => {
    const { body } = await expectRefusal(refusals, () => post(operation, text));
    expect(body.code).toBe("invalid_request");
  });

  test.each<[string, string | Uint8Array]>([
    ["nothing", ""],
    ["no JSON", "{"],
    ["more than JSON", "{}{}"],
    ["a comment", "/**/{}"],
    ["single quotes", "{'title':1}"],
    ["NaN", '{"title":NaN}'],
    ["a bare control character", '{"title":"a\u0001"}'],
    ["bytes that are no UTF-8", Uint8Array.of(0x22, 0xff, 0xfe, 0x22)],
    ["a surrogate in UTF-8", Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ["UTF-16", Buffer.from("{}", "utf16le")],
    ["a key with U+0000", '{"a\\u0000":1}'],
    ["a broken text in an unknown field", '{"unknown":["\\udfff"]}'],
  ])("refuses %s as 400", async (_name, text) => {
    const { body } = await expectRefusal(["400 Bad Request"], () => post(operation, text));
    expect(body.code).toBe("invalid_request");
  });

  test.each(["null", "[]", "[{}]", '"{}"', "1", "true"])(
    "refuses %s, which is no object, as 422",
    async (text) => {
      const { body } = await expectRefusal(["422 Unprocessable Content"], () => post(operation, text));
      expect(body.code).toBe("invalid_request");
    },
  );

  test.each([
    "",
    "text/plain",
    "text/json",
    "application/xml",
    "application/jsonp",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/json; charset=utf-16",
    "json",
    "application/json, text/plain",
  ])("refuses the media type '%s' as 415", async (type) => {
    const text = JSON.stringify(acceptedBody(operation));
    const { body } = await expectRefusal(["415 Unsupported Media Type"], () =>
      post(operation, text, { headers: { "content-type": type } }),
    );
    expect(body.code).toBe("invalid_request");
  });

  test("refuses a body over the limit as 413, whether it says its size or not, and keeps the last byte below", async () => {
    const padded = (size: number): string => {
      const text = JSON.stringify({ ...acceptedBody(operation), padding: "" });
      return text.replace('"padding":""', `"padding":"${"x".repeat(size - text.length)}"`);
    };
    const big = padded(bodyLimit + 1);
    for (const headers of [{}, { "transfer-encoding": "chunked" }]) {
      const { body } = await expectRefusal(["413 Content Too Large"], () =>
        post(operation, big, { headers }),
      );
      expect(body.code).toBe("body_too_large");
    }
    const fits = await post(operation, padded(bodyLimit), { of: await makeResources(app) });
    expect(fits.status).toBe(expectationOf(operation).success);
  });

  test("ignores what it does not know, takes null for absent, and of duplicate keys the last", async () => {
    const accepted = acceptedBody(operation);
    const properties = Object.keys((operation.jsonBody?.["properties"] ?? {}) as object);
    const optional = properties.filter((name) => !(name in accepted)).map((name) => `"${name}":null`);
    const [field = "x"] = Object.keys(accepted);
    const bodies = [
      { ...accepted, tenant_id: "x", user_id: 1, unknown: { deep: [null, { a: 1 }] } },
      JSON.parse(`{${[...optional, JSON.stringify(accepted).slice(1)].join(",")}`),
    ].map((body) => JSON.stringify(body));
    bodies.push(`{"${field}":[],"${field}":{"a":1},${JSON.stringify(accepted).slice(1)}`);
    for (const text of bodies) {
      const answer = await post(operation, text, { of: await makeResources(app) });
      expect(answer.status, text).toBe(expectationOf(operation).success);
    }
  });

  test("takes JSON by any of its media types", async () => {
    const text = JSON.stringify(acceptedBody(operation));
    for (const type of ["APPLICATION/JSON", "application/json ; charset=UTF-8", "application/vnd.x+json"]) {
      const headers = { "content-type": type };
      const answer = await post(operation, text, { of: await makeResources(app), headers });
      expect(answer.status, type).toBe(expectationOf(operation).success);
    }
  });

  test("looks at path, media type, JSON and fields in the order of turns.md §4.2 row 2", async () => {
    const broken = { ...mine, chatId: "x" };
    const plain = { "content-type": "text/plain" };
    if (operation.path.includes("{id}")) {
      await expectRefusal(["415 Unsupported Media Type"], () =>
        post(operation, "{", { of: broken, headers: plain }),
      );
      await expectRefusal(["400 Bad Request"], () => post(operation, "[]", { of: broken }));
    }
    await expectRefusal(["400 Bad Request"], () =>
      post(operation, '{"unknown":"\\u0000","title":1,"content":1}'),
    );
  });
});

const withoutBody = app.contract.operations
  .filter(({ requestBody }) => requestBody === undefined)
  .map((operation) => ({ name: `${operation.method} ${operation.path}`, operation }))
  // An upload reads its form itself.
  .filter(({ operation }) => expectationOf(operation).body === undefined);

describe.each(withoutBody)("$name", ({ operation }) => {
  test.each<[string, string]>([
    ["application/json", "{"],
    ["application/json", `{"title":"${"x".repeat(bodyLimit)}"}`],
    ["text/plain", "not json"],
    ["a/b/c", "\ud800"],
    [";", "x"],
  ])("ignores a body of type %s", async (type, body) => {
    const { status } = await post(operation, body, {
      of: await makeResources(app),
      headers: { "content-type": type },
    });
    expect(status).toBe(expectationOf(operation).success);
  });
});

const withIds = app.contract.operations
  .filter(({ path }) => path.includes("{id}"))
  .map((operation) => ({ name: `${operation.method} ${operation.path}`, operation }));

describe.each(withIds)("$name", ({ operation }) => {
  const parameters = (operation.parameters ?? []).filter(
    ({ in: place, schema }) => place === "path" && schema["format"] === "uuid",
  );

  test.each(parameters)("refuses a malformed $name as 400, and takes one in upper case", async ({ name }) => {
    const body = operation.jsonBody === null ? undefined : JSON.stringify(acceptedBody(operation));
    const send = (path: string): Promise<Answer> =>
      app.raw({
        method: operation.method,
        target: `/v1${path}`,
        headers: {
          authorization: "Bearer token-ann",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        body,
      });
    const id = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";
    const long = "a".repeat(3_000);
    for (const bad of [
      "x",
      id.slice(1),
      `${id}0`,
      `{${id}}`,
      `%20${id}`,
      "%00",
      "%2e%2e",
      "..%2f..",
      "%F0%9F%98%80",
      long,
      "null",
      "*",
    ]) {
      const path = pathOf({ ...operation, path: operation.path.replace(`{${name}}`, bad) }, mine);
      const { body: problem } = await expectRefusal(["400 Bad Request"], () => send(path));
      expect(problem.code).toBe("invalid_request");
    }
    const unknown = pathOf(
      { ...operation, path: operation.path.replace(`{${name}}`, id.toUpperCase()) },
      mine,
    );
    const { status } = await send(unknown);
    // 415: an upload without its form.
    expect([404, 204, 400, 415], String(status)).toContain(status);
  });
});

const queried = app.contract.operations.flatMap((operation) =>
  (operation.parameters ?? [])
    .filter(
      (one) =>
        one.in === "query" && (Array.isArray(one.schema["enum"]) || one.schema["format"] === "date-time"),
    )
    .map((parameter) => ({
      name: `${operation.method} ${operation.path}?${parameter.name}`,
      operation,
      parameter,
    })),
);

test("the query keys of mutations are refused when malformed, twice, or not Unicode", async () => {
  for (const { name, operation, parameter } of queried) {
    const key = parameter.name;
    const text = operation.jsonBody === null ? "" : JSON.stringify(acceptedBody(operation));
    for (const query of [`${key}=x`, `${key}=%00`, `${key}=%zz`, `${key}=a&${key}=b`, `${key}=%ED%A0%80`]) {
      const { body } = await expectRefusal(["400 Bad Request"], () =>
        post(operation, text, { query: `?${query}` }),
      );
      expect(body.code, `${name} ${query}`).toBe("invalid_request");
    }
  }
});
