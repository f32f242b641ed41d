import type { Problem } from "../config/check.ts";
import { type Config, ConfigError } from "../config/schema.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { parseSnapshot } from "./catalog.ts";
import { type ModelPolicyPlugin, PolicyPluginError } from "./plugin.ts";
import type { PolicySnapshot, UserLimits } from "./snapshot.ts";

type Settings = Config["plugins"]["model_policy"]["static"];

const section = "plugins.model_policy.static";
const version = 1n;

/**
 * The policy of the configuration file (policy.md §11): always version 1, the same limits for every
 * user, everybody active; usage is logged. Throws `ConfigError` with every invalid key of the catalog.
 */
export const createStaticPlugin = (
  settings: Settings,
  deps: { readonly providerIds: ReadonlySet<string>; readonly clock?: Clock; readonly logger?: Logger },
): ModelPolicyPlugin => {
  const snapshot = staticSnapshot(settings, deps.providerIds);
  const limits = staticLimits(settings);
  const clock = deps.clock ?? systemClock;
  const logger = deps.logger ?? noLogger;
  const only = <T>(asked: bigint, value: T): T => {
    if (asked === version) return value;
    throw new PolicyPluginError("not_found", `static policy has no version ${asked}`);
  };
  return {
    stableVersions: false,
    getCurrentPolicyVersion: async () => ({ policyVersion: version, generatedAt: new Date(clock.now()) }),
    getPolicySnapshot: async (_ctx, asked) => only(asked, snapshot),
    getUserLimits: async (_ctx, asked) => only(asked, limits),
    checkUserLicense: async () => ({ active: true }),
    publishUsage: async (event) => logger.debug({ event }, "usage event"),
  };
};

const staticSnapshot = (
  { model_catalog, kill_switches }: Settings,
  providerIds: ReadonlySet<string>,
): PolicySnapshot => {
  const parsed = parseSnapshot(
    version,
    { model_catalog, kill_switches },
    { providerIds, httpDefaults: false },
  );
  if ("snapshot" in parsed) return parsed.snapshot;
  throw new ConfigError(
    parsed.problems.map(({ key, message }): Problem => ({ key: `${section}.${key}`, message })),
  );
};

const staticLimits = (settings: Settings): UserLimits => {
  const tier = (limits: Settings["default_standard_limits"]): UserLimits["standard"] => ({
    daily: BigInt(limits.limit_daily_credits_micro),
    monthly: BigInt(limits.limit_monthly_credits_micro),
  });
  return {
    standard: tier(settings.default_standard_limits),
    premium: tier(settings.default_premium_limits),
  };
};
