import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { createAuthenticator } from "../../src/auth/authenticate.ts";
import { recordingLogger } from "../http/support.ts";
import { jwtAuthenticator, newKey, sign, startKeyServer } from "./issuer.ts";
import { configOf, refusalOf, tenantA, tenantB, userA, userB } from "./support.ts";

const refused = ["unauthorized", 401];

const tokens = [
  { token: "dev-token", tenant_id: tenantA, user_id: userA },
  {
    token: "other:token/+=~",
    tenant_id: tenantB.toUpperCase(),
    user_id: userB,
    scopes: ["ai:mini_chat:read"],
  },
];

const fixed = createAuthenticator(configOf({ auth: { tokens } }).auth);

describe("static tokens", () => {
  test.each(["Bearer dev-token", "bearer dev-token", "BEARER   dev-token  "])(
    "%j is the first user",
    async (header) => {
      expect(await fixed.authenticate(header)).toEqual({
        tenantId: tenantA,
        userId: userA,
        subjectType: "user",
        scopes: ["*"],
      });
    },
  );

  test("each token is its own user, tenant and scopes, ids in lower case", async () => {
    expect(await fixed.authenticate("Bearer other:token/+=~")).toEqual({
      tenantId: tenantB,
      userId: userB,
      subjectType: "user",
      scopes: ["ai:mini_chat:read"],
    });
  });

  test.each<[string, string | undefined]>([
    ["no header", undefined],
    ["an empty header", ""],
    ["no scheme", "dev-token"],
    ["another scheme", "Basic dev-token"],
    ["no token", "Bearer"],
    ["a blank token", "Bearer   "],
    ["two tokens", "Bearer dev-token dev-token"],
    ["a list of credentials", "Bearer dev-token, Bearer dev-token"],
    ["an unknown token", "Bearer dev-tokem"],
    ["a longer token", "Bearer dev-token1"],
    ["a shorter token", "Bearer dev-toke"],
    ["another case", "Bearer DEV-TOKEN"],
    ["what is not ASCII", "Bearer dev-tokén"],
    ["an enormous token", `Bearer ${"a".repeat(9_000)}`],
    ["the name of an object's member", "Bearer __proto__"],
  ])("%s is 401", async (_what, header) => {
    expect(await refusalOf(fixed.authenticate(header))).toEqual(refused);
  });

  test("without any token configured nobody gets in", async () => {
    const nobody = createAuthenticator(configOf({ auth: { tokens: [] } }).auth);
    expect(await refusalOf(nobody.authenticate("Bearer dev-token"))).toEqual(refused);
    expect(await refusalOf(nobody.authenticate(undefined))).toEqual(refused);
  });
});

describe("auth.disabled", () => {
  const subject = { tenant_id: tenantB, user_id: userB };

  test.each([undefined, "", "Bearer whoever", "Basic x"])(
    "makes the header %j the configured subject",
    async (header) => {
      const open = createAuthenticator(configOf({ auth: { disabled: true, subject, tokens } }).auth);
      expect(await open.authenticate(header)).toEqual({
        tenantId: tenantB,
        userId: userB,
        subjectType: "user",
        scopes: ["*"],
      });
    },
  );

  test("has a subject of its own where none is configured", async () => {
    const open = createAuthenticator(configOf({ auth: { disabled: true } }).auth);
    expect(await open.authenticate(undefined)).toMatchObject({
      tenantId: "00000000-df51-5b42-9538-d2b56b7ee953",
      userId: "11111111-6a88-4768-9dfc-6bcd5187d9ed",
    });
  });
});

describe("no part of a token is in an error or a log line", () => {
  const traces = async (run: Promise<unknown>): Promise<string> =>
    run.then(
      () => "",
      (error: unknown) => inspect(error, { depth: null }),
    );

  test("when it is refused", async () => {
    const text = await traces(fixed.authenticate("Bearer planted-secret-token"));
    expect(text).toContain("unauthorized");
    expect(text).not.toContain("planted");
  });

  test("when it cannot be verified", async () => {
    const [key, server, { logger, lines }] = [await newKey("k"), await startKeyServer(), recordingLogger()];
    await server.close();
    const { auth } = configOf({
      auth: { mode: "jwt", jwt: { issuer: "i", audience: "a", jwks_url: server.url } },
    });
    const token = await sign(key);
    const text = await traces(createAuthenticator(auth, { logger }).authenticate(`Bearer ${token}`));
    expect(text).toContain("service_unavailable");
    expect(lines).toMatchObject([{ level: "warn", processing_stage: "auth" }]);
    for (const part of token.split(".")) {
      expect(text).not.toContain(part);
      expect(inspect(lines, { depth: null })).not.toContain(part);
    }
  });
});

test("a static token is nothing to an issuer", async () => {
  const server = await startKeyServer(await newKey("k"));
  expect(await refusalOf(jwtAuthenticator(server.url).authenticate("Bearer dev-token"))).toEqual(refused);
});
