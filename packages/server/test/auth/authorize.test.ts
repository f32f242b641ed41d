import { describe, expect, test } from "vitest";
import type { ResourceType } from "../../src/auth/access.ts";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { recordingLogger } from "../http/support.ts";
import { actorA, configOf, refusalOf, tenantA, tenantB, userA, userB } from "./support.ts";

const authorizer = createAuthorizer(configOf({}).authz);

const readActions = ["list", "read", "list_messages", "read_attachment", "read_turn"];
const writeActions = [
  "create",
  "update",
  "delete",
  "send_message",
  "retry_turn",
  "edit_turn",
  "delete_turn",
  "cancel_turn",
  "upload_attachment",
  "delete_attachment",
  "set_reaction",
  "delete_reaction",
];

const forbidden = ["forbidden", 403];

const outcomes = async (
  scopes: readonly string[],
  actions: readonly string[],
  resourceType: ResourceType = "chat",
) =>
  Promise.all(
    actions.map((action) => refusalOf(authorizer.authorize({ ...actorA, scopes }, { resourceType, action }))),
  );

describe("token scopes (data.md §6)", () => {
  test.each<[string, readonly string[], boolean, boolean]>([
    ["*", ["*"], true, true],
    ["ai:mini_chat", ["ai:mini_chat"], true, true],
    ["ai:mini_chat:read", ["ai:mini_chat:read"], true, false],
    ["ai:mini_chat:write", ["ai:mini_chat:write"], false, true],
    ["read and write", ["ai:mini_chat:read", "ai:mini_chat:write"], true, true],
    ["a scope of another service among others", ["mail", "ai:mini_chat:read"], true, false],
    ["none", [], false, false],
    [
      "scopes of other services",
      ["ai", "ai:mini", "ai:mini_chat:", "ai:mini_chat:admin", "AI:MINI_CHAT"],
      false,
      false,
    ],
  ])("%s", async (_name, scopes, mayRead, mayWrite) => {
    expect(new Set((await outcomes(scopes, readActions)).map(String))).toEqual(
      new Set([String(mayRead ? "none" : forbidden)]),
    );
    expect(new Set((await outcomes(scopes, writeActions)).map(String))).toEqual(
      new Set([String(mayWrite ? "none" : forbidden)]),
    );
  });

  test("models and quota are read with the scope to read", async () => {
    for (const resourceType of ["model", "user_quota"] as const) {
      expect(await outcomes(["ai:mini_chat:read"], ["read"], resourceType)).toEqual(["none"]);
      expect(await outcomes(["ai:mini_chat:write"], ["read"], resourceType)).toEqual([forbidden]);
    }
  });
});

describe("the built-in decision point", () => {
  test("permits the caller's own rows of his own tenant", async () => {
    const scope = await authorizer.authorize(actorA, { resourceType: "chat", action: "read" });
    const admitted = [tenantA, tenantB].flatMap((owner_tenant_id) =>
      [userA, userB].map((owner_id) => scope.admits({ owner_tenant_id, owner_id, id: userA })),
    );
    expect(admitted).toEqual([true, false, false, false]);
  });

  test("tells the log whom it refused what, and nothing of the token", async () => {
    const { logger, lines } = recordingLogger();
    const logged = createAuthorizer(configOf({}).authz, { logger });
    const refused = logged.authorize(
      { ...actorA, scopes: ["planted"] },
      { resourceType: "chat", action: "read" },
    );
    await expect(refused).rejects.toMatchObject({ code: "forbidden" });
    expect(lines).toEqual([
      {
        level: "info",
        msg: "access refused",
        processing_stage: "auth",
        tenant_id: tenantA,
        user_id: userA,
        requester_type: actorA.subjectType,
        resource_type: "chat",
        action: "read",
        reason: "denied",
        error_code: "forbidden",
      },
    ]);
  });

  test("says nothing in a refusal", async () => {
    const refused = authorizer.authorize({ ...actorA, scopes: [] }, { resourceType: "chat", action: "read" });
    await expect(refused).rejects.toMatchObject({ code: "forbidden", message: "Access denied", options: {} });
  });
});
