import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import type { Operation } from "./document.ts";
import {
  expectationOf,
  expectations,
  makeResources,
  pathOf,
  type Resources,
  randomResources,
} from "./operations.ts";
import { type ApiApp, dataDigest, moreCallers, startApiApp } from "./support.ts";

// The cases are made from the document of a running application, so that no route can be forgotten.
// Without workers: what a chat's cleanup writes later is not what a refused request wrote.
const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());

const operations = app.contract.operations.map((operation) => ({
  name: `${operation.method} ${operation.path}`,
  operation,
}));
const limited = operations.filter(({ name }) => expectations[name]?.scope !== "both");
const inChat = operations.filter(({ operation }) => operation.path.startsWith("/chats/{id}"));
const withChild = inChat.filter(({ name }) => expectations[name]?.child !== undefined);
const withOwner = inChat.filter(({ name }) => expectations[name]?.ownedBy !== undefined);

test("every operation of the document has a row", () => {
  expect(operations.map(({ name }) => name).filter((name) => !(name in expectations))).toEqual([]);
});

let anns: Resources;
let bobs: Resources;
beforeAll(async () => {
  [anns, bobs] = [await makeResources(app), await makeResources(app, callers.bob)];
});

interface Asked {
  readonly caller?: Caller | null;
  readonly headers?: Record<string, string>;
  readonly at?: ApiApp;
}

const ask = (operation: Operation, of: Resources, { at = app, ...options }: Asked = {}): Promise<Answer> =>
  at.call(operation.method, pathOf(operation, of), { ...options, body: expectationOf(operation).body?.() });

const problemOf = ({ status, body }: Answer): string => `${status} ${body.code} ${body.title}`;

const varying = [
  "x-request-id",
  "traceparent",
  "date",
  "ratelimit-remaining",
  "ratelimit-reset",
  "content-length",
];

/** All a client can tell two answers apart by. */
const visible = ({ status, headers, body }: Answer): object => {
  const { instance: _instance, trace_id: _traceId, ...problem } = body;
  return { status, problem, headers: [...headers].filter(([name]) => !varying.includes(name)) };
};

describe.each(operations)("$name", ({ operation }) => {
  test("with the rights it needs succeeds", async () => {
    const answer = await ask(operation, await makeResources(app));
    expect(answer.status).toBe(expectationOf(operation).success);
  });

  test.each<[string, Asked]>([
    ["no token", { caller: null }],
    ["another scheme", { caller: null, headers: { authorization: "Basic token-ann" } }],
    ["a scheme without a token", { caller: null, headers: { authorization: "Bearer" } }],
    ["a token without a scheme", { caller: null, headers: { authorization: "token-ann" } }],
    ["two tokens", { caller: null, headers: { authorization: "Bearer token-ann token-ann" } }],
    ["an unknown token", { caller: null, headers: { authorization: "Bearer token-nobody" } }],
    ["a token in other letters", { caller: null, headers: { authorization: "Bearer Token-Ann" } }],
    ["an endless token", { caller: null, headers: { authorization: `Bearer ${"x".repeat(9_000)}` } }],
  ])("%s: 401", async (_name, asked) => {
    const answer = await ask(operation, anns, asked);
    expect(problemOf(answer)).toBe("401 unauthorized Unauthorized");
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("a tenant without the feature: 403, before anything else is looked at", async () => {
    const { unlicensed } = moreCallers;
    const answer = await ask(operation, anns, { caller: unlicensed });
    expect(problemOf(answer)).toBe("403 feature_not_licensed feature_not_licensed");
    const garbage = await app.raw({
      method: operation.method,
      target: `/v1${operation.path.replaceAll(/\{\w+\}/g, "x")}`,
      headers: { authorization: `Bearer ${unlicensed.token}`, "content-type": "text/plain" },
      body: operation.method === "GET" ? undefined : "{",
    });
    expect(problemOf(garbage)).toBe("403 feature_not_licensed feature_not_licensed");
  });

  test("a token without the scope: 403, the same for what exists and what does not", async () => {
    const { scope, forbidden } = expectationOf(operation);
    const { nobody, reader, writer } = moreCallers;
    const tooLittle = { read: [writer], write: [reader], both: [reader, writer] }[scope];
    for (const caller of [nobody, ...tooLittle]) {
      const answer = await ask(operation, anns, { caller });
      expect(problemOf(answer), caller.token).toBe(`403 forbidden ${forbidden}`);
    }
    const reveals = await ask(operation, randomResources(), { caller: moreCallers.nobody });
    expect(visible(reveals)).toEqual(visible(await ask(operation, anns, { caller: moreCallers.nobody })));
  });
});

describe.each(limited)("$name", ({ operation }) => {
  test("the limited token of its kind suffices", async () => {
    const caller = expectationOf(operation).scope === "read" ? moreCallers.reader : moreCallers.writer;
    const answer = await ask(operation, await makeResources(app), { caller });
    expect(answer.status).toBe(expectationOf(operation).success);
  });
});

describe.each(inChat)("$name", ({ operation }) => {
  test("another tenant's, another user's, a deleted and no chat are one and the same 404", async () => {
    const { chatNotFound } = expectationOf(operation);
    const before = await dataDigest(app.db);
    const nothing = await ask(operation, randomResources());
    expect(problemOf(nothing)).toBe(`404 chat_not_found ${chatNotFound}`);
    const foreign = await ask(operation, bobs);
    const colleagues = await ask(operation, anns, { caller: callers.amy });
    expect(await dataDigest(app.db)).toEqual(before);
    const deleted = await makeResources(app);
    await app.call("DELETE", `/chats/${deleted.chatId}`);
    for (const answer of [foreign, colleagues, await ask(operation, deleted)]) {
      expect(visible(answer)).toEqual(visible(nothing));
    }
  });
});

describe.each(withChild)("$name", ({ operation }) => {
  test("what is in another chat, another tenant's or not at all are one and the same 404", async () => {
    const { child } = expectationOf(operation);
    const id = child?.id ?? "requestId";
    const nothing = await ask(operation, { ...anns, [id]: randomUUID() });
    expect(problemOf(nothing)).toBe(`404 ${child?.notFound}`);
    const elsewhere = await makeResources(app);
    for (const of of [bobs, elsewhere]) {
      expect(visible(await ask(operation, { ...anns, [id]: of[id] }))).toEqual(visible(nothing));
    }
    expect(await ask(operation, { ...bobs, [id]: anns[id] })).toMatchObject({
      body: { code: "chat_not_found" },
    });
  });
});

describe.each(withOwner)("$name", ({ operation }) => {
  test("what another user owns in the caller's chat: 403", async () => {
    const { ownedBy = "", forbidden } = expectationOf(operation);
    const mine = await makeResources(app);
    const [table, column] = ownedBy.split(".");
    await app.db.query(`update ${table} set ${column} = $1 where chat_id = $2`, [
      callers.amy.userId,
      mine.chatId,
    ]);
    expect(problemOf(await ask(operation, mine))).toBe(`403 forbidden ${forbidden}`);
  });
});

describe("attachments named in a message", () => {
  test("are refused alike when another tenant's, of another chat, deleted or unknown", async () => {
    const send = (attachmentId: string): Promise<Answer> =>
      app.call("POST", `/chats/${anns.chatId}/messages:stream`, {
        body: { content: "PING", attachment_ids: [attachmentId] },
      });
    const nothing = await send(randomUUID());
    expect(problemOf(nothing)).toBe("400 invalid_attachment invalid_attachment");
    const elsewhere = await makeResources(app);
    const deleted = (await makeResources(app)).attachmentId;
    await app.db.query("update attachments set chat_id = $1, deleted_at = now() where id = $2", [
      anns.chatId,
      deleted,
    ]);
    for (const id of [bobs.attachmentId, elsewhere.attachmentId, deleted]) {
      expect(visible(await send(id))).toEqual(visible(nothing));
    }
  });
});

describe("a policy decision point", () => {
  let decision: { readonly status: number; readonly answer: unknown };
  const asked: { action: { name: string }; resource: { type: string; id?: string } }[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    request.on("end", () => {
      asked.push(JSON.parse(text));
      response.writeHead(decision.status, { "content-type": "application/json" });
      response.end(JSON.stringify(decision.answer));
    });
  });
  let guarded: ApiApp;
  beforeAll(async () => {
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    const { port } = server.address() as AddressInfo;
    guarded = await startApiApp({
      database: app.database,
      simulator: app.simulator,
      config: { role: "api", authz: { mode: "http", url: `http://127.0.0.1:${port}/decide` } },
    });
  });
  afterAll(async () => {
    await guarded.close();
    server.closeAllConnections();
    server.close();
  });

  const constrained = (...predicates: object[]) => ({
    status: 200,
    answer: { decision: true, context: { constraints: [{ predicates }] } },
  });

  describe.each(operations)("$name", ({ operation }) => {
    test("that says no: 403; that cannot answer: 500; neither reads or writes anything", async () => {
      const { forbidden } = expectationOf(operation);
      const before = await dataDigest(app.db);
      decision = { status: 200, answer: { decision: false } };
      expect(problemOf(await ask(operation, anns, { at: guarded }))).toBe(`403 forbidden ${forbidden}`);
      decision = { status: 503, answer: {} };
      const failed = await ask(operation, anns, { at: guarded });
      expect(problemOf(failed)).toBe("500 internal_error Internal Error");
      expect(visible(await ask(operation, randomResources(), { at: guarded }))).toEqual(visible(failed));
      expect(await dataDigest(app.db)).toEqual(before);
    });

    test("is asked about the chat, once, and a send twice", async () => {
      decision = constrained(
        { op: "eq", property: "owner_tenant_id", value: callers.ann.tenantId },
        { op: "eq", property: "owner_id", value: callers.ann.userId },
      );
      const mine = await makeResources(app);
      asked.length = 0;
      await ask(operation, mine, { at: guarded });
      const isSend = expectationOf(operation).scope === "both";
      expect(asked).toHaveLength(isSend ? 2 : 1);
      if (isSend) expect(asked.map(({ action }) => action.name)).toEqual(["read", "send_message"]);
      if (operation.path.startsWith("/chats/{id}")) {
        for (const { resource } of asked) expect(resource).toMatchObject({ type: "chat", id: mine.chatId });
      }
    });
  });

  test("cannot widen access: an answer for another tenant, or for everybody, shows nothing foreign", async () => {
    for (const predicates of [
      [{ op: "eq", property: "owner_tenant_id", value: callers.bob.tenantId }],
      [{ op: "in", property: "owner_id", values: [callers.bob.userId, callers.ann.userId] }],
      [],
    ]) {
      decision = constrained(...predicates);
      expect((await guarded.call("GET", `/chats/${bobs.chatId}`)).status).toBe(404);
      const list = await guarded.call("GET", "/chats?limit=100");
      expect(list.body.items.map(({ id }: { id: string }) => id)).not.toContain(bobs.chatId);
    }
  });

  test("that narrows to one chat hides the others, in lists too", async () => {
    const other = await app.createChat();
    decision = constrained({ op: "eq", property: "id", value: anns.chatId });
    expect((await guarded.call("GET", `/chats/${anns.chatId}`)).status).toBe(200);
    expect((await guarded.call("GET", `/chats/${other}`)).status).toBe(404);
    const list = await guarded.call("GET", "/chats");
    expect(list.body.items.map(({ id }: { id: string }) => id)).toEqual([anns.chatId]);
  });
});
