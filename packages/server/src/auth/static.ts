import { createHmac, randomBytes } from "node:crypto";
import type { Config } from "../config/schema.ts";
import { type Actor, asTenantId, asUserId } from "./actor.ts";

/**
 * The subject of a configured token, or null (ops.md §2.2, `auth.tokens`). Tokens are looked up by a
 * digest under a key of this process, so that neither the time a lookup takes nor a memory dump of the
 * table tells anything about a token.
 */
export const createStaticTokens = (tokens: Config["auth"]["tokens"]): ((token: string) => Actor | null) => {
  const key = randomBytes(32);
  const digest = (token: string): string => createHmac("sha256", key).update(token).digest("base64");
  const actors = new Map(
    tokens.map(({ token, tenant_id, user_id, scopes }): [string, Actor] => [
      digest(token.reveal()),
      { tenantId: asTenantId(tenant_id), userId: asUserId(user_id), subjectType: "user", scopes },
    ]),
  );
  return (token) => actors.get(digest(token)) ?? null;
};
