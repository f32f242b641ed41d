import type { TenantId, UserId } from "../auth/actor.ts";
import type { Problem } from "../config/check.ts";
import type { UsageEvent } from "../outbox/events.ts";
import type { PolicySnapshot, UserLimits } from "./snapshot.ts";

/** On whose behalf the policy source is asked. */
export interface PluginContext {
  readonly tenantId: TenantId;
  readonly userId: UserId;
  /** Fires when the answer is no longer wanted. */
  readonly signal?: AbortSignal;
}

/**
 * The source of policy (policy.md §10), one per process. The getters always answer the same for a
 * fixed user and version, throw `PolicyPluginError`, and `InvalidSnapshotError` for a snapshot that
 * breaks the rules of policy.md §2. Versions are 1 to 2^53 − 1 and never decrease.
 */
export interface ModelPolicyPlugin {
  getCurrentPolicyVersion(
    ctx: PluginContext,
  ): Promise<{ readonly policyVersion: bigint; readonly generatedAt: Date }>;
  getPolicySnapshot(ctx: PluginContext, policyVersion: bigint): Promise<PolicySnapshot>;
  getUserLimits(ctx: PluginContext, policyVersion: bigint): Promise<UserLimits>;
  /** Whoever is unknown, invited, deactivated or deleted is not active. Absent = nobody is active. */
  checkUserLicense?(ctx: PluginContext): Promise<{ readonly active: boolean }>;
  /** Delivery is at least once. Throws `PublishError` (outbox/sink.ts). */
  publishUsage(event: UsageEvent, signal?: AbortSignal): Promise<void>;
  /** False when the content of a version may differ after a restart: then it is not stored. Default true. */
  readonly stableVersions?: boolean;
  close?(): Promise<void>;
}

/** The policy source did not answer (`internal`), or does not know what was asked for. */
export class PolicyPluginError extends Error {
  override name = "PolicyPluginError";
  readonly kind: "not_found" | "internal";

  constructor(kind: "not_found" | "internal", message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }
}

const namedProblems = 20;

/** A snapshot that is rejected as a whole (policy.md §9 rule 4). The message names keys, never values. */
export class InvalidSnapshotError extends Error {
  override name = "InvalidSnapshotError";
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const named = problems.slice(0, namedProblems).map(({ key, message }) => `${key}: ${message}`);
    super(`invalid policy snapshot: ${named.join("; ")}`);
    this.problems = problems;
  }
}

/** A plugin whose getters answer in time or fail. */
export type TimelyPlugin = Pick<
  Required<ModelPolicyPlugin>,
  "getCurrentPolicyVersion" | "getPolicySnapshot" | "getUserLimits" | "checkUserLicense"
>;

/**
 * The getters of a plugin with a time limit each (policy.md §10): a call that takes longer, or throws
 * anything unforeseen, is a `PolicyPluginError` of kind `internal`. A late answer is dropped.
 */
export const inTime = (plugin: ModelPolicyPlugin, timeoutMs: number): TimelyPlugin => ({
  getCurrentPolicyVersion: (ctx) =>
    limited(ctx, timeoutMs, (bounded) => plugin.getCurrentPolicyVersion(bounded)),
  getPolicySnapshot: (ctx, version) =>
    limited(ctx, timeoutMs, (bounded) => plugin.getPolicySnapshot(bounded, version)),
  getUserLimits: (ctx, version) =>
    limited(ctx, timeoutMs, (bounded) => plugin.getUserLimits(bounded, version)),
  checkUserLicense: (ctx) =>
    limited(
      ctx,
      timeoutMs,
      async (bounded) => (await plugin.checkUserLicense?.(bounded)) ?? { active: false },
    ),
});

const limited = async <T>(
  { tenantId, userId }: PluginContext,
  timeoutMs: number,
  call: (ctx: PluginContext) => Promise<T>,
): Promise<T> => {
  const late = Promise.withResolvers<never>();
  const controller = new AbortController();
  const timer = setTimeout(() => {
    late.reject(new PolicyPluginError("internal", "the policy plugin did not answer in time"));
    controller.abort();
  }, timeoutMs);
  try {
    return await Promise.race([call({ tenantId, userId, signal: controller.signal }), late.promise]);
  } catch (error) {
    if (error instanceof PolicyPluginError || error instanceof InvalidSnapshotError) throw error;
    throw new PolicyPluginError("internal", "the policy plugin failed", error);
  } finally {
    clearTimeout(timer);
  }
};
