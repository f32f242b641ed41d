import type { ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import type { AccessRequest } from "../../src/auth/access.ts";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { recordingLogger } from "../http/support.ts";
import {
  actorA,
  configOf,
  refusalOf,
  sendJson,
  startServer,
  tenantA,
  tenantB,
  userA,
  userB,
} from "./support.ts";

const readChat: AccessRequest = { resourceType: "chat", action: "read" };
const chat = "CCCCCCCC-0000-4000-8000-00000000000C";

const forbidden = ["forbidden", 403];
const failed = ["internal_error", 500];

/** An authorizer whose decision point answers as told. */
const startPdp = async (answer: (response: ServerResponse) => void, timeoutMs = 2_000) => {
  const server = await startServer((response) => answer(response));
  const { logger, lines } = recordingLogger();
  const { authz } = configOf({ authz: { mode: "http", url: server.url, timeout_ms: timeoutMs } });
  return { server, lines, authorizer: createAuthorizer(authz, { logger }) };
};

const answering = (value: unknown) => startPdp((response) => sendJson(response, value));

const allow = (...constraints: readonly (readonly unknown[])[]) => ({
  decision: true,
  context: { constraints: constraints.map((predicates) => ({ predicates })) },
});
const eq = (property: string, value: unknown) => ({ op: "eq", property, value });

describe("what is asked (data.md §6)", () => {
  const subject = { id: userA, type: "user", properties: { tenant_id: tenantA } };

  test.each<[string, AccessRequest, object]>([
    [
      "about a chat: its id, in lower case",
      { resourceType: "chat", action: "send_message", resourceId: chat },
      {
        subject,
        action: { name: "send_message" },
        resource: { type: "chat", id: chat.toLowerCase(), properties: {} },
        context: {
          token_scopes: ["*"],
          require_constraints: true,
          capabilities: [],
          supported_properties: ["owner_tenant_id", "owner_id", "id"],
        },
      },
    ],
    [
      "about a new chat: whose it will be",
      { resourceType: "chat", action: "create" },
      {
        subject,
        action: { name: "create" },
        resource: { type: "chat", properties: { owner_tenant_id: tenantA, owner_id: userA } },
        context: {
          token_scopes: ["*"],
          require_constraints: true,
          capabilities: [],
          supported_properties: ["owner_tenant_id", "owner_id", "id"],
        },
      },
    ],
    [
      "about models: no constraints are needed",
      { resourceType: "model", action: "list" },
      {
        subject,
        action: { name: "list" },
        resource: { type: "model", properties: {} },
        context: {
          token_scopes: ["*"],
          require_constraints: false,
          capabilities: [],
          supported_properties: ["owner_tenant_id"],
        },
      },
    ],
    [
      "about quota",
      { resourceType: "user_quota", action: "read" },
      {
        subject,
        action: { name: "read" },
        resource: { type: "user_quota", properties: {} },
        context: {
          token_scopes: ["*"],
          require_constraints: true,
          capabilities: [],
          supported_properties: ["owner_tenant_id", "owner_id"],
        },
      },
    ],
  ])("%s", async (_what, request, expected) => {
    const { server, authorizer } = await answering(allow([]));
    await authorizer.authorize(actorA, request);
    expect(server.bodies.map((body) => JSON.parse(body))).toEqual([expected]);
  });

  test("no answer is used twice", async () => {
    let allowed = true;
    const { server, authorizer } = await startPdp((response) => {
      sendJson(response, { ...allow([]), decision: allowed });
    });
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toBe("none");
    allowed = false;
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toEqual(forbidden);
    expect(server.bodies).toHaveLength(2);
  });
});

describe("what is permitted", () => {
  const everyRow = [tenantA, tenantB].flatMap((owner_tenant_id) =>
    [userA, userB].map((owner_id) => ({ owner_tenant_id, owner_id, id: chat.toLowerCase() })),
  );
  const [mine] = everyRow;

  test.each<[string, object, readonly unknown[]]>([
    ["an unconstrained answer is still narrowed to one's own", allow([]), [mine]],
    ["a tenant's worth of rows is narrowed to one's own", allow([eq("owner_tenant_id", tenantA)]), [mine]],
    ["another tenant is never reached", allow([eq("owner_tenant_id", tenantB)], [eq("owner_id", userB)]), []],
    [
      "everybody's rows by name are narrowed to one's own",
      allow([
        { op: "in", property: "owner_tenant_id", values: [tenantA, tenantB] },
        { op: "in", property: "owner_id", values: [userA, userB] },
      ]),
      [mine],
    ],
    ["one chat is that chat", allow([eq("id", chat)]), [mine]],
    ["another chat is not this one", allow([eq("id", userA)]), []],
    ["what is not understood is left out", allow([eq("color", "red")], [eq("id", chat)]), [mine]],
  ])("%s", async (_answer, answer, expected) => {
    const { authorizer } = await answering(answer);
    const scope = await authorizer.authorize(actorA, readChat);
    expect(everyRow.filter((row) => scope.admits(row))).toEqual(expected);
  });

  test("models need no constraints, but the ones that come must include the caller", async () => {
    const request: AccessRequest = { resourceType: "model", action: "list" };
    for (const [answer, outcome] of [
      [{ decision: true }, "none"],
      [allow([eq("owner_tenant_id", tenantA)]), "none"],
      [allow([eq("owner_tenant_id", tenantB)]), forbidden],
    ] as const) {
      const { authorizer } = await answering(answer);
      expect(await refusalOf(authorizer.authorize(actorA, request))).toEqual(outcome);
    }
  });
});

describe("a refusal is 403, with its reason in the log only", () => {
  test.each<[string, unknown, string]>([
    ["no", { decision: false }, "denied"],
    ["no, with constraints", { ...allow([]), decision: false }, "denied"],
    ["no, with a reason", { decision: false, context: { reason: "planted" } }, "denied"],
    ["yes without constraints", { decision: true }, "constraints missing"],
    [
      "yes with null for constraints",
      { decision: true, context: { constraints: null } },
      "constraints missing",
    ],
    ["yes with an empty list of constraints", allow(), "constraints missing"],
    ["yes with constraints nobody understands", allow([eq("color", "red")]), "constraints uncompilable"],
  ])("%s", async (_answer, answer, reason) => {
    const { authorizer, lines } = await answering(answer);
    await expect(authorizer.authorize(actorA, readChat)).rejects.toMatchObject({
      code: "forbidden",
      status: 403,
      message: "Access denied",
    });
    expect(lines).toMatchObject([{ level: "info", reason, action: "read", resource_type: "chat" }]);
  });

  test("constraints that are left out are a warning", async () => {
    const { authorizer, lines } = await answering(allow([eq("color", "red")], []));
    await authorizer.authorize(actorA, readChat);
    expect(lines).toMatchObject([{ level: "warn", dropped: 1 }]);
  });
});

describe("without a usable answer nothing is served: 500", () => {
  test.each<[string, (response: ServerResponse) => void]>([
    ["an error", (response) => response.writeHead(500).end(JSON.stringify(allow([])))],
    ["a client error", (response) => response.writeHead(403).end(JSON.stringify(allow([])))],
    ["success of another kind", (response) => response.writeHead(202).end(JSON.stringify(allow([])))],
    ["a redirect", (response) => response.writeHead(307, { location: "/yes" }).end()],
    ["nothing", (response) => response.writeHead(200).end()],
    ["no JSON", (response) => response.writeHead(200).end("yes")],
    ["half an answer", (response) => response.writeHead(200).end('{"decision": true, "context"')],
    ["a broken connection", (response) => response.destroy()],
    [
      "a connection that breaks in the answer",
      (response) => {
        response.writeHead(200, { "content-length": "1000" }).write('{"decision": true');
        response.flushHeaders();
        setImmediate(() => response.destroy());
      },
    ],
    [
      "more than any answer holds",
      (response) => response.writeHead(200).end(`${JSON.stringify(allow([]))}${" ".repeat(1_048_577)}`),
    ],
  ])("%s", async (_answer, answer) => {
    const { authorizer, lines } = await startPdp(answer);
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toEqual(failed);
    expect(lines).toMatchObject([{ level: "error", error_code: "internal_error" }]);
  });

  test.each<[string, unknown]>([
    ["a list", []],
    ["null", null],
    ["no decision", { context: {} }],
    ["a decision that is a text", { decision: "true" }],
    ["a decision that is a number", { decision: 1 }],
    ["constraints that are a map", { decision: true, context: { constraints: {} } }],
    ["a constraint that is a text", { decision: true, context: { constraints: ["all"] } }],
    ["predicates that are a map", { decision: true, context: { constraints: [{ predicates: {} }] } }],
    ["a constraint without predicates", { decision: true, context: { constraints: [{}] } }],
  ])("malformed: %s", async (_answer, answer) => {
    const { authorizer } = await answering(answer);
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toEqual(failed);
  });

  test("nobody listens", async () => {
    const { authorizer, server } = await answering(allow([]));
    await server.close();
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toEqual(failed);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ["no answer comes", () => {}],
    ["only headers come", (response) => response.writeHead(200).flushHeaders()],
    ["the answer stops in the middle", (response) => response.writeHead(200).write('{"decision": true')],
  ])("in time, when %s", async (_how, answer) => {
    const { authorizer } = await startPdp(answer, 100);
    expect(await refusalOf(authorizer.authorize(actorA, readChat))).toEqual(failed);
  });
});
