import { createHash } from "node:crypto";
import {
  type CryptoKey,
  createRemoteJWKSet,
  customFetch,
  errors,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
} from "jose";
import type { Config } from "../config/schema.ts";
import { invariant } from "../lib/assert.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import type { Actor } from "./actor.ts";
import { actorOf } from "./claims.ts";
import { ExpiringCache } from "./expiring-cache.ts";

/** Signatures by private keys only: a shared secret, or none at all, is never accepted. */
const algorithms = [
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ...["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
];

/** How far the issuer's clock may be ahead, for tokens not valid yet. Expiry is exact (api.md §1.2). */
const CLOCK_TOLERANCE_SECS = 30;
/** An unknown key id loads the key set again, but not more often than this. */
const COOLDOWN_MS = 10_000;
const KEYS_MAX_AGE_MS = 600_000;
const KEYS_TIMEOUT_MS = 5_000;
/** After a failed load; an unreachable endpoint is not asked once per request. */
const FAILURE_PAUSE_MS = 1_000;
/** A verification costs some 200 µs; its result is used again for this long. */
const VERIFIED_MS = 60_000;
const VERIFIED_LIMIT = 10_000;

/** Nothing can be said about the token now: the keys cannot be had. */
export class KeysUnavailable extends Error {
  override name = "KeysUnavailable";
}

export type JwtVerifier = (token: string) => Promise<Actor | null>;

/**
 * Verifies tokens of the configured issuer against its published keys (ops.md §2.2, `auth.jwt`).
 * Null for a token that is not valid now; rejects with `KeysUnavailable` when it cannot be judged.
 */
export const createJwtVerifier = (
  config: Config["auth"]["jwt"],
  deps: { readonly clock?: Clock } = {},
): JwtVerifier => {
  const { issuer, audience, jwks_url: url } = config;
  invariant(
    issuer !== undefined && audience !== undefined && url !== undefined,
    "auth.jwt is checked with the configuration",
  );
  const clock = deps.clock ?? systemClock;
  const keys = remoteKeys(new URL(url), clock);
  const verified = new ExpiringCache<Actor>(VERIFIED_LIMIT, clock);
  return async (token) => {
    const key = createHash("sha256").update(token).digest("base64");
    const known = verified.get(key);
    if (known !== undefined) return known;
    const now = clock.now();
    const payload = await verify(token, keys, {
      issuer,
      audience,
      algorithms,
      clockTolerance: CLOCK_TOLERANCE_SECS,
      requiredClaims: ["exp"],
      currentDate: new Date(now),
    });
    const expiresMs = (payload?.exp ?? 0) * 1_000;
    if (payload === null || now >= expiresMs) return null;
    const actor = actorOf(payload, config);
    if (actor !== null) verified.set(key, actor, Math.min(now + VERIFIED_MS, expiresMs));
    return actor;
  };
};

/** The published keys. What goes wrong in fetching them is told apart from what is wrong with a token. */
const remoteKeys = (url: URL, clock: Clock): JWTVerifyGetKey => {
  let failedAtMs = Number.NEGATIVE_INFINITY;
  const published = createRemoteJWKSet(url, {
    cooldownDuration: COOLDOWN_MS,
    cacheMaxAge: KEYS_MAX_AGE_MS,
    timeoutDuration: KEYS_TIMEOUT_MS,
    [customFetch]: (target, options) => {
      if (clock.now() - failedAtMs < FAILURE_PAUSE_MS) throw new KeysUnavailable("keys could not be loaded");
      return fetch(target, options);
    },
  });
  return async (header, token) => {
    try {
      return await published(header, token);
    } catch (error) {
      if (isAboutToken(error)) throw error;
      if (error instanceof KeysUnavailable) throw error;
      failedAtMs = clock.now();
      throw new KeysUnavailable("keys could not be loaded", { cause: error });
    }
  };
};

const isAboutToken = (error: unknown): boolean =>
  error instanceof errors.JWKSNoMatchingKey ||
  error instanceof errors.JWKSMultipleMatchingKeys ||
  error instanceof errors.JOSENotSupported;

/** The payload of a valid token, null of any other. A token without key id is tried with every key it fits. */
const verify = async (
  token: string,
  keys: JWTVerifyGetKey,
  options: JWTVerifyOptions,
): Promise<JWTPayload | null> => {
  try {
    return (await jwtVerify(token, keys, options)).payload;
  } catch (error) {
    if (error instanceof KeysUnavailable) throw error;
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) return null;
    for await (const key of error) {
      const payload = await verifyWith(token, key, options);
      if (payload !== null) return payload;
    }
    return null;
  }
};

const verifyWith = async (
  token: string,
  key: CryptoKey,
  options: JWTVerifyOptions,
): Promise<JWTPayload | null> => {
  try {
    return (await jwtVerify(token, key, options)).payload;
  } catch {
    return null;
  }
};
