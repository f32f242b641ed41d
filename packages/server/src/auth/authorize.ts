import type { Config } from "../config/schema.ts";
import { AppError } from "../errors.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type AccessRequest, resources, scopesAllow } from "./access.ts";
import type { Actor } from "./actor.ts";
import { compileConstraints, type Decision } from "./decision.ts";
import { askPdp } from "./pdp.ts";
import { type AccessScope, type Property, scopeFor } from "./scope.ts";

/** Asks the policy decision point (data.md §6). Nothing positive is remembered between calls. */
export interface Authorizer {
  /**
   * The scope of a permitted request, already narrowed to the caller's tenant and own rows. Throws
   * 403 `forbidden` when refused or the answer gives no usable scope, 500 `internal_error` when no
   * answer can be had.
   */
  authorize(actor: Actor, request: AccessRequest): Promise<AccessScope>;
}

/** The built-in decision point: whatever the token's scopes permit, on the caller's own rows. */
const decideStatic = (actor: Actor, { resourceType, action }: AccessRequest): Decision => {
  if (!scopesAllow(actor.scopes, action)) return { allowed: false };
  const { supported }: { readonly supported: readonly Property[] } = resources[resourceType];
  const own = [
    { op: "eq", property: "owner_tenant_id", value: actor.tenantId },
    { op: "eq", property: "owner_id", value: actor.userId },
  ] as const;
  const predicates = own.filter(({ property }) => supported.includes(property));
  return { allowed: true, constraints: [{ predicates }] };
};

/** The authorizer of the configured mode. `url` is present with mode `http` (checked with the configuration). */
export const createAuthorizer = (
  config: Config["authz"],
  deps: { readonly logger?: Logger } = {},
): Authorizer => {
  const logger = deps.logger ?? noLogger;
  const decide = async (actor: Actor, request: AccessRequest): Promise<Decision> => {
    if (config.mode === "static") return decideStatic(actor, request);
    try {
      return await askPdp({ url: config.url ?? "", timeoutMs: config.timeout_ms }, actor, request);
    } catch (cause) {
      logger.error(
        { ...named(actor, request), error_code: "internal_error", err: cause },
        "policy point failed",
      );
      throw new AppError("internal_error", { cause });
    }
  };
  return {
    authorize: async (actor, request) => {
      const decision = await decide(actor, request);
      if (!decision.allowed) return refuse(logger, actor, request, "denied");
      const { supported, required } = resources[request.resourceType];
      const compiled = compileConstraints(decision.constraints, { required, supported });
      if (compiled.kind === "error") return refuse(logger, actor, request, compiled.reason);
      if (compiled.dropped > 0) {
        logger.warn(
          { ...named(actor, request), dropped: compiled.dropped },
          "policy constraints not understood",
        );
      }
      const scope = scopeFor(actor, compiled.rules);
      // Models and quota have no row to hide behind a 404: a scope without the caller is a refusal.
      if (request.resourceType !== "chat" && !scope.admits({})) {
        return refuse(logger, actor, request, "outside the constraints");
      }
      return scope;
    },
  };
};

const named = (actor: Actor, { resourceType, action }: AccessRequest): object => ({
  processing_stage: "auth",
  tenant_id: actor.tenantId,
  user_id: actor.userId,
  requester_type: actor.subjectType,
  resource_type: resourceType,
  action,
});

const refuse = (logger: Logger, actor: Actor, request: AccessRequest, reason: string): never => {
  logger.info({ ...named(actor, request), reason, error_code: "forbidden" }, "access refused");
  throw new AppError("forbidden");
};
