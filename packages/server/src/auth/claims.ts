import type { JWTPayload } from "jose";
import type { Config } from "../config/schema.ts";
import { isUuid } from "../lib/id.ts";
import { type Actor, asTenantId, asUserId } from "./actor.ts";

type ClaimNames = Pick<Config["auth"]["jwt"], "tenant_claim" | "user_claim" | "scope_claim">;

const claim = (payload: JWTPayload, name: string): unknown =>
  Object.hasOwn(payload, name) ? payload[name] : undefined;

/** A space-separated text or a list of texts; a token without the claim is not limited by scopes. */
const readScopes = (value: unknown): readonly string[] | null => {
  if (value === undefined) return ["*"];
  if (typeof value === "string") return value.split(" ").filter((scope) => scope !== "");
  return Array.isArray(value) && value.every((scope) => typeof scope === "string") ? value : null;
};

/**
 * The subject a verified token names; null when a claim is missing or not what it must be: tenant and
 * user are UUIDs.
 */
export const actorOf = (payload: JWTPayload, names: ClaimNames): Actor | null => {
  const tenant = claim(payload, names.tenant_claim);
  const user = claim(payload, names.user_claim);
  const scopes = readScopes(claim(payload, names.scope_claim));
  if (typeof tenant !== "string" || !isUuid(tenant)) return null;
  if (typeof user !== "string" || !isUuid(user)) return null;
  if (scopes === null) return null;
  return { tenantId: asTenantId(tenant), userId: asUserId(user), subjectType: "user", scopes };
};
