import { z } from "zod";
import { bearerSecret, flag, httpUrl, millis, nonBlank, secret, uuid } from "./fields.ts";

const staticToken = z.strictObject({
  token: bearerSecret(),
  tenant_id: uuid(),
  user_id: uuid(),
  scopes: z.array(nonBlank()).default(["*"]),
});

const jwt = z
  .strictObject({
    issuer: nonBlank().optional(),
    audience: nonBlank().optional(),
    jwks_url: httpUrl().optional(),
    tenant_claim: nonBlank().default("tenant_id"),
    user_claim: nonBlank().default("sub"),
    scope_claim: nonBlank().default("scope"),
  })
  .prefault({});

/** Who the caller is (ops.md §2.2, api.md §1.2). */
export const authSection = z
  .strictObject({
    disabled: flag(false),
    allow_public_disabled: flag(false),
    /** The subject of every request while `disabled`. */
    subject: z
      .strictObject({
        tenant_id: uuid().default("00000000-df51-5b42-9538-d2b56b7ee953"),
        user_id: uuid().default("11111111-6a88-4768-9dfc-6bcd5187d9ed"),
      })
      .prefault({}),
    mode: z.enum(["static", "jwt"]).default("static"),
    tokens: z.array(staticToken).default([]),
    jwt,
  })
  .prefault({});

/** The policy decision point (data.md §6). */
export const authzSection = z
  .strictObject({
    mode: z.enum(["static", "http"]).default("static"),
    url: httpUrl().optional(),
    timeout_ms: millis(2_000, 100, 10_000),
  })
  .prefault({});

/** Service identity of background provider calls; required unless `auth.disabled`. */
export const clientCredentialsSection = z
  .strictObject({
    client_id: nonBlank().optional(),
    client_secret: secret()
      .refine((value) => value.reveal().trim() !== "", "must not be blank")
      .optional(),
  })
  .prefault({});

/** Which tenants have the feature `ai_chat` (policy.md §14). */
export const licenseSection = z
  .strictObject({
    mode: z.enum(["static", "plugin"]).default("static"),
    tenants: z.array(z.union([z.literal("*"), uuid()])).default(["*"]),
  })
  .prefault({});
