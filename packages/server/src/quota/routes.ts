import { z } from "zod";
import type { Authorizer } from "../auth/authorize.ts";
import { problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { int64, timestampOut } from "../http/validate.ts";
import { type QuotaStatusDeps, readQuotaStatus } from "./status.ts";

export interface QuotaRoutesDeps extends QuotaStatusDeps {
  readonly authorizer: Authorizer;
}

const periodSchema = z
  .object({
    period: z.enum(["daily", "monthly"]),
    limit_credits_micro: int64(),
    used_credits_micro: int64(),
    remaining_credits_micro: int64(),
    remaining_percentage: z.int().min(0).max(100),
    next_reset: timestampOut(),
    warning: z.boolean(),
    exhausted: z.boolean(),
  })
  .meta({ id: "Period" });

const tierSchema = z
  .object({ tier: z.enum(["premium", "total"]), periods: z.array(periodSchema) })
  .meta({ id: "TierStatus" });

const statusSchema = z
  .object({ warning_threshold_pct: z.int(), tiers: z.array(tierSchema) })
  .meta({ id: "QuotaStatus" });

/** `/quota/status` (api.md §2). */
export const registerQuotaRoutes = (api: ApiServer, deps: QuotaRoutesDeps): void => {
  api.get(
    "/quota/status",
    {
      schema: {
        operationId: "getQuotaStatus",
        tags: ["quota"],
        summary: "See how much quota is left",
        response: { 200: statusSchema, ...problems("forbidden", "service_unavailable") },
      },
    },
    async (request) => {
      await deps.authorizer.authorize(request.actor, { resourceType: "user_quota", action: "read" });
      return readQuotaStatus(deps, request.actor);
    },
  );
};
