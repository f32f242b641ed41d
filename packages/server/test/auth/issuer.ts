import type { ServerResponse } from "node:http";
import { type CryptoKey, exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from "jose";
import { onTestFinished, vi } from "vitest";
import { type Authenticator, createAuthenticator } from "../../src/auth/authenticate.ts";
import { configOf, type LocalServer, sendJson, startServer, tenantA, userA } from "./support.ts";

export const ISSUER = "https://issuer.example/";
export const AUDIENCE = "mini-chat";

/** A signing key of an issuer, with what it publishes of it. */
export interface SigningKey {
  readonly kid: string;
  readonly alg: string;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly published: JWK;
}

export const newKey = async (kid: string, alg = "RS256"): Promise<SigningKey> => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const published = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  return { kid, alg, privateKey, publicKey, published };
};

export interface KeyServer extends LocalServer {
  /** What it answers from now on. */
  publish(...keys: readonly (SigningKey | JWK)[]): void;
  answerWith(answer: (response: ServerResponse) => void): void;
  /** How often it was asked. */
  readonly asked: () => number;
}

export const startKeyServer = async (...first: readonly SigningKey[]): Promise<KeyServer> => {
  let answer = (_response: ServerResponse): void => {};
  const server = await startServer((response) => answer(response));
  const answerWith = (next: typeof answer): void => {
    answer = next;
  };
  const publish: KeyServer["publish"] = (...keys) => {
    const set = keys.map((key) => ("published" in key ? key.published : key));
    answerWith((response) => sendJson(response, { keys: set }));
  };
  publish(...first);
  return { ...server, publish, answerWith, asked: () => server.bodies.length };
};

/** Stops the clock, of this program and of its libraries; timers go on. */
export const stopClock = (): { advance(ms: number): void; nowSecs(): number } => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_800_000_000_000 });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  return {
    advance: (ms) => {
      vi.setSystemTime(Date.now() + ms);
    },
    nowSecs: () => Math.floor(Date.now() / 1_000),
  };
};

export const jwtAuthenticator = (
  jwksUrl: string,
  claims: { tenant_claim?: string; user_claim?: string; scope_claim?: string } = {},
): Authenticator =>
  createAuthenticator(
    configOf({
      auth: { mode: "jwt", jwt: { issuer: ISSUER, audience: AUDIENCE, jwks_url: jwksUrl, ...claims } },
    }).auth,
  );

/** The claims of a valid token, changed as given; undefined leaves a claim out. */
export const claimsOf = (changes: JWTPayload = {}): JWTPayload => {
  const now = Math.floor(Date.now() / 1_000);
  const all = {
    iss: ISSUER,
    aud: AUDIENCE,
    sub: userA,
    tenant_id: tenantA,
    scope: "ai:mini_chat",
    iat: now,
    exp: now + 600,
    ...changes,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
};

export const sign = (key: SigningKey, changes: JWTPayload = {}, header: object = {}): Promise<string> =>
  new SignJWT(claimsOf(changes))
    .setProtectedHeader({ alg: key.alg, kid: key.kid, ...header })
    .sign(key.privateKey);
