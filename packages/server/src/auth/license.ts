import type { Config } from "../config/schema.ts";
import { AppError } from "../errors.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import type { Actor } from "./actor.ts";
import { ExpiringCache } from "./expiring-cache.ts";

/** Whether a caller has the feature `ai_chat` (policy.md §14). */
export interface LicenseGate {
  /** Throws 503 `service_unavailable` when it cannot be told; never a guess in favour of access. */
  isLicensed(actor: Actor): Promise<boolean>;
}

/** The policy plugin's answer about one user. */
export type CheckUserLicense = (actor: Actor) => Promise<{ readonly active: boolean }>;

const FRESH_MS = 60_000;
/** While the plugin fails, its last answer holds this long, as a policy snapshot does (policy.md §9). */
const STALE_MS = 900_000;
const LIMIT = 10_000;

/** The gate of the configured mode; `checkUserLicense` is needed with mode `plugin`. */
export const createLicenseGate = (
  config: Config["license"],
  deps: {
    readonly checkUserLicense?: CheckUserLicense;
    readonly clock?: Clock;
    readonly logger?: Logger;
  } = {},
): LicenseGate => {
  if (config.mode === "static") return staticGate(config.tenants);
  const { checkUserLicense } = deps;
  if (checkUserLicense === undefined) throw new TypeError("license.mode 'plugin' needs a policy plugin");
  return pluginGate(checkUserLicense, deps.clock ?? systemClock, deps.logger ?? noLogger);
};

const staticGate = (tenants: readonly string[]): LicenseGate => {
  const licensed = new Set(tenants);
  const everyone = licensed.has("*");
  return { isLicensed: async ({ tenantId }) => everyone || licensed.has(tenantId) };
};

interface Answer {
  readonly active: boolean;
  readonly atMs: number;
}

const pluginGate = (check: CheckUserLicense, clock: Clock, logger: Logger): LicenseGate => {
  const answers = new ExpiringCache<Answer>(LIMIT, clock);
  const asking = new Map<string, Promise<boolean>>();
  const ask = async (key: string, actor: Actor, last: Answer | undefined): Promise<boolean> => {
    try {
      const { active } = await check(actor);
      const atMs = clock.now();
      answers.set(key, { active, atMs }, atMs + STALE_MS);
      return active;
    } catch (cause) {
      logger.warn({ processing_stage: "auth", err: cause }, "licence check failed");
      if (last !== undefined) return last.active;
      throw new AppError("service_unavailable", {
        detail: "The licence cannot be checked now.",
        cause,
      });
    }
  };
  return {
    isLicensed: (actor) => {
      const key = `${actor.tenantId} ${actor.userId}`;
      const last = answers.get(key);
      if (last !== undefined && clock.now() - last.atMs < FRESH_MS) return Promise.resolve(last.active);
      const pending = asking.get(key) ?? ask(key, actor, last).finally(() => asking.delete(key));
      asking.set(key, pending);
      return pending;
    },
  };
};
