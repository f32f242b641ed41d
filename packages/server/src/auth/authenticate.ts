import type { Config } from "../config/schema.ts";
import { AppError } from "../errors.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type Actor, asTenantId, asUserId } from "./actor.ts";
import { createJwtVerifier } from "./jwt.ts";
import { createStaticTokens } from "./static.ts";

/** Tells who sends a request (api.md §1.2). */
export interface Authenticator {
  /**
   * The subject of an `Authorization` header. Throws 401 `unauthorized` when it is missing,
   * malformed, unknown or expired, 503 `service_unavailable` when it cannot be verified now. No error
   * holds any part of the token.
   */
  authenticate(authorization: string | undefined): Promise<Actor>;
}

/** Longer ones are refused before any work is spent on them. */
const MAX_TOKEN_CHARS = 8_192;

/** Wider than RFC 6750 allows: a configured static token may be any visible ASCII. */
const bearer = /^bearer +([\x21-\x7e]+) *$/i;

/** The token of a well-formed `Bearer` header, else null. */
export const bearerToken = (authorization: string | undefined): string | null => {
  if (authorization === undefined || authorization.length > MAX_TOKEN_CHARS + 64) return null;
  const token = bearer.exec(authorization)?.[1];
  return token === undefined || token.length > MAX_TOKEN_CHARS ? null : token;
};

type Verify = (token: string) => Promise<Actor | null>;

/** The authenticator of the configured mode; `auth.disabled` makes every request the configured subject. */
export const createAuthenticator = (
  config: Config["auth"],
  deps: { readonly clock?: Clock; readonly logger?: Logger } = {},
): Authenticator => {
  if (config.disabled) return always(config.subject);
  const logger = deps.logger ?? noLogger;
  const verify = verifierOf(config, deps.clock ?? systemClock);
  return {
    authenticate: async (authorization) => {
      const token = bearerToken(authorization);
      if (token === null) throw unauthorized();
      const actor = await verify(token).catch((cause: unknown) => {
        logger.warn({ processing_stage: "auth", err: cause }, "token cannot be verified now");
        throw new AppError("service_unavailable", {
          detail: "Credentials cannot be verified now.",
        });
      });
      if (actor === null) throw unauthorized();
      return actor;
    },
  };
};

const verifierOf = (config: Config["auth"], clock: Clock): Verify => {
  if (config.mode === "jwt") return createJwtVerifier(config.jwt, { clock });
  const find = createStaticTokens(config.tokens);
  return async (token) => find(token);
};

const always = (subject: Config["auth"]["subject"]): Authenticator => {
  const actor: Actor = {
    tenantId: asTenantId(subject.tenant_id),
    userId: asUserId(subject.user_id),
    subjectType: "user",
    scopes: ["*"],
  };
  return { authenticate: async () => actor };
};

const unauthorized = (): AppError =>
  new AppError("unauthorized", { detail: "A valid bearer token is needed." });
