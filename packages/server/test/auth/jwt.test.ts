import { createHmac } from "node:crypto";
import { exportJWK, exportSPKI, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import {
  AUDIENCE,
  claimsOf,
  ISSUER,
  jwtAuthenticator,
  newKey,
  type SigningKey,
  sign,
  startKeyServer,
  stopClock,
} from "./issuer.ts";
import { refusalOf, tenantA, tenantB, userA } from "./support.ts";

let key: SigningKey;
let other: SigningKey;
beforeAll(async () => {
  [key, other] = await Promise.all([newKey("k1"), newKey("k1")]);
});

const authenticate = async (token: string, claims = {}) => {
  const server = await startKeyServer(key);
  return jwtAuthenticator(server.url, claims).authenticate(`Bearer ${token}`);
};

const refused = ["unauthorized", 401];

const base64 = (value: object | string): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

describe("a valid token names its subject", () => {
  test("by the usual claims, ids in lower case", async () => {
    const token = await sign(key, { sub: userA.toUpperCase(), tenant_id: tenantA.toUpperCase() });
    expect(await authenticate(token)).toEqual({
      tenantId: tenantA,
      userId: userA,
      subjectType: "user",
      scopes: ["ai:mini_chat"],
    });
  });

  test("by configured claims, and by no others", async () => {
    const names = { tenant_claim: "https://x.example/org", user_claim: "uid", scope_claim: "scp" };
    const token = await sign(key, {
      sub: "somebody",
      tenant_id: tenantB,
      "https://x.example/org": tenantA,
      uid: userA,
      scp: ["a", "b"],
    });
    expect(await authenticate(token, names)).toMatchObject({
      tenantId: tenantA,
      userId: userA,
      scopes: ["a", "b"],
    });
  });

  test.each<[string, unknown, readonly string[]]>([
    ["a text", "a  b ", ["a", "b"]],
    ["an empty text", "", []],
    ["a list", ["a", "b"], ["a", "b"]],
    ["an empty list", [], []],
    ["no claim, which does not limit", undefined, ["*"]],
  ])("scopes may be %s", async (_form, scope, expected) => {
    expect((await authenticate(await sign(key, { scope }))).scopes).toEqual(expected);
  });

  test.each(["RS512", "PS256", "ES256", "ES384", "EdDSA"])("signed with %s", async (alg) => {
    const own = await newKey("k", alg);
    const server = await startKeyServer(own);
    const token = await sign(own);
    expect(await jwtAuthenticator(server.url).authenticate(`Bearer ${token}`)).toMatchObject({
      userId: userA,
    });
  });

  test("one audience of several is enough", async () => {
    expect(await authenticate(await sign(key, { aud: ["else", AUDIENCE] }))).toMatchObject({ userId: userA });
  });
});

describe("a wrong signature is 401", () => {
  test("of another key with the same id", async () => {
    expect(await refusalOf(authenticate(await sign(other)))).toEqual(refused);
  });

  test.each<[string, (parts: string[]) => string[]]>([
    ["changed payload", ([head = "", , mark = ""]) => [head, base64(claimsOf({ tenant_id: tenantB })), mark]],
    ["changed signature", ([head = "", body = "", mark = ""]) => [head, body, `${mark.slice(0, -4)}AAAA`]],
    ["no signature", ([head = "", body = ""]) => [head, body, ""]],
    ["two parts", ([head = "", body = ""]) => [head, body]],
  ])("%s", async (_how, change) => {
    const token = change((await sign(key)).split(".")).join(".");
    expect(await refusalOf(authenticate(token))).toEqual(refused);
  });

  test.each(["x", "a.b.c", "...", `${base64("{}")}.${base64("{}")}.x`])(
    "not a token at all: %s",
    async (token) => {
      expect(await refusalOf(authenticate(token))).toEqual(refused);
    },
  );
});

describe("algorithm confusion is 401", () => {
  const hmac = (secret: string | Uint8Array, header: object): string => {
    const signed = `${base64(header)}.${base64(claimsOf())}`;
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  };

  test("HS256 with the public key, in every form it is published, as the secret", async () => {
    const spki = await exportSPKI(key.publicKey);
    const jwk = await exportJWK(key.publicKey);
    const der = Buffer.from(spki.replace(/-----[^-]+-----|\s/g, ""), "base64");
    for (const secret of [
      spki,
      spki.trim(),
      der,
      JSON.stringify(jwk),
      Buffer.from(jwk.n ?? "", "base64url"),
    ]) {
      const token = hmac(secret, { alg: "HS256", kid: "k1", typ: "JWT" });
      expect(await refusalOf(authenticate(token))).toEqual(refused);
    }
  });

  test("HS256 with a secret the issuer publishes by mistake, without even asking for keys", async () => {
    const secret = Buffer.alloc(32, 7);
    const server = await startKeyServer(key);
    server.publish(key, { kty: "oct", k: secret.toString("base64url"), kid: "shared", alg: "HS256" });
    const token = hmac(secret, { alg: "HS256", kid: "shared" });
    expect(await refusalOf(jwtAuthenticator(server.url).authenticate(`Bearer ${token}`))).toEqual(refused);
    expect(server.asked()).toBe(0);
  });

  test.each(["none", "None", "NONE", ""])("alg %j", async (alg) => {
    const unsecured = new UnsecuredJWT(claimsOf()).encode();
    const [, body] = unsecured.split(".");
    for (const mark of ["", "AAAA"]) {
      const token = `${base64({ alg, kid: "k1" })}.${body}.${mark}`;
      expect(await refusalOf(authenticate(token))).toEqual(refused);
    }
  });

  test("a key the token brings along, or says where to get", async () => {
    const jwk = await exportJWK(other.publicKey);
    const evil = await startKeyServer(other);
    for (const header of [{ jwk }, { jku: evil.url }, { x5u: evil.url }]) {
      expect(await refusalOf(authenticate(await sign(other, {}, header)))).toEqual(refused);
    }
    expect(evil.asked()).toBe(0);
  });

  test("another algorithm than the key is published for", async () => {
    const { publicKey, privateKey } = await crypto.subtle.generateKey(
      { name: "RSA-PSS", modulusLength: 2_048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
      true,
      ["sign", "verify"],
    );
    const server = await startKeyServer();
    server.publish({ ...(await exportJWK(publicKey)), kid: "k1", alg: "RS256" });
    const token = await new SignJWT(claimsOf())
      .setProtectedHeader({ alg: "PS256", kid: "k1" })
      .sign(privateKey);
    expect(await refusalOf(jwtAuthenticator(server.url).authenticate(`Bearer ${token}`))).toEqual(refused);
  });
});

describe("a wrong or missing claim is 401", () => {
  test.each<[string, JWTPayload]>([
    ["another issuer", { iss: "https://evil.example/" }],
    ["an issuer that only begins alike", { iss: `${ISSUER}x` }],
    ["no issuer", { iss: undefined }],
    ["another audience", { aud: "else" }],
    ["other audiences", { aud: ["else", "more"] }],
    ["no audience", { aud: undefined }],
    ["no expiry", { exp: undefined }],
    ["no user", { sub: undefined }],
    ["a user that is no UUID", { sub: "alice" }],
    ["no tenant", { tenant_id: undefined }],
    ["a tenant that is no UUID", { tenant_id: "*" }],
    ["a tenant that is a list", { tenant_id: [tenantA] }],
    ["a tenant that is null", { tenant_id: null }],
    ["scopes that are a number", { scope: 7 }],
    ["scopes that are a map", { scope: { "*": true } }],
    ["scopes with something else", { scope: ["a", 7] }],
  ] as [string, JWTPayload][])("%s", async (_what, changes) => {
    expect(await refusalOf(authenticate(await sign(key, changes)))).toEqual(refused);
  });

  test("a claim every object has is not a claim", async () => {
    const token = await sign(key);
    expect(await refusalOf(authenticate(token, { tenant_claim: "constructor" }))).toEqual(refused);
  });
});

describe("time", () => {
  test.each<[string, JWTPayload, boolean]>([
    ["expires in a second", { exp: 1 }, true],
    ["expires now", { exp: 0 }, false],
    ["expired a second ago", { exp: -1 }, false],
    ["expired long ago", { exp: -86_400 }, false],
    ["is valid from now on", { nbf: 0 }, true],
    ["is valid from a moment that clocks may differ by", { nbf: 30 }, true],
    ["is not yet valid", { nbf: 31 }, false],
  ])("a token that %s", async (_when, offsets, valid) => {
    const clock = stopClock();
    const changes = Object.fromEntries(
      Object.entries(offsets).map(([name, offset]) => [name, clock.nowSecs() + Number(offset)]),
    );
    const outcome = await refusalOf(authenticate(await sign(key, changes)));
    expect(outcome).toEqual(valid ? "none" : refused);
  });

  test.each([1, 59, 60, 61, 150])(
    "a token that was good is not taken %i s later, when it has expired",
    async (life) => {
      const clock = stopClock();
      const server = await startKeyServer(key);
      const authenticator = jwtAuthenticator(server.url);
      const token = `Bearer ${await sign(key, { exp: clock.nowSecs() + life })}`;
      for (let second = 0; second < life; second += 1) {
        expect(await refusalOf(authenticator.authenticate(token))).toBe("none");
        clock.advance(1_000);
      }
      expect(await refusalOf(authenticator.authenticate(token))).toEqual(refused);
      clock.advance(-1);
      expect(await refusalOf(authenticator.authenticate(token))).toBe("none");
    },
  );
});
