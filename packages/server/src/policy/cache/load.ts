import type { TenantId } from "../../auth/actor.ts";
import { type Logger, noLogger } from "../../telemetry/log.ts";
import { type Metrics, noMetrics } from "../../telemetry/metrics.ts";
import { InvalidSnapshotError } from "../plugin.ts";

/** Runs one load of policy, counted and, when it fails, logged (policy.md §9 rule 4); rethrows. */
export type Load = <T>(what: string, tenantId: TenantId, work: () => Promise<T>) => Promise<T>;

export const createLoad = (deps: { readonly logger?: Logger; readonly metrics?: Metrics }): Load => {
  const logger = deps.logger ?? noLogger;
  const metrics = deps.metrics ?? noMetrics;
  return async (what, tenantId, work) => {
    try {
      const value = await work();
      metrics.count("policy_refresh", { result: "ok" });
      return value;
    } catch (err) {
      const invalid = err instanceof InvalidSnapshotError;
      metrics.count("policy_refresh", { result: invalid ? "invalid" : "error" });
      logger[invalid ? "error" : "warn"]({ tenant_id: tenantId, what, err }, "policy load failed");
      throw err;
    }
  };
};
