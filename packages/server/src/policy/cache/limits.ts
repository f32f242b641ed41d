import type { TenantId } from "../../auth/actor.ts";
import type { Clock } from "../../lib/clock.ts";
import { type PluginContext, PolicyPluginError, type TimelyPlugin } from "../plugin.ts";
import type { UserLimits } from "../snapshot.ts";
import { ageOf, type Freshness, retryPauseMs } from "./freshness.ts";
import type { Load } from "./load.ts";
import { Lru } from "./lru.ts";
import { createSingleFlight } from "./single-flight.ts";

export interface LimitsCacheDeps {
  readonly plugin: Pick<TimelyPlugin, "getUserLimits">;
  readonly load: Load;
  readonly clock: Clock;
  readonly capacity: number;
  readonly freshness: Freshness;
}

/** Limits by tenant, user and version, never stored. */
export interface LimitsCache {
  /** Throws when none are known that are young enough and the plugin gives no valid ones. */
  get(ctx: PluginContext, version: bigint): Promise<UserLimits>;
  dropBelow(tenantId: TenantId, version: bigint): void;
}

interface Known {
  readonly tenantId: TenantId;
  readonly version: bigint;
  readonly limits: UserLimits;
  readonly atMs: number;
  /** No attempt in the background before. */
  retryAtMs: number;
}

export const createLimitsCache = (deps: LimitsCacheDeps): LimitsCache => {
  const { clock } = deps;
  const kept = new Lru<Known>(deps.capacity);
  const once = createSingleFlight<UserLimits>();
  const fetch = (key: string, ctx: PluginContext, version: bigint): Promise<UserLimits> =>
    once(key, () =>
      deps.load("limits", ctx.tenantId, async () => {
        const atMs = clock.now();
        const limits = await deps.plugin.getUserLimits(ctx, version);
        if (!areValid(limits)) throw new PolicyPluginError("internal", "the user's limits are invalid");
        kept.set(key, { tenantId: ctx.tenantId, version, limits, atMs, retryAtMs: 0 });
        return limits;
      }),
    );
  return {
    get: async (ctx, version) => {
      const key = `${ctx.tenantId} ${ctx.userId} ${version}`;
      const known = kept.get(key);
      const now = clock.now();
      const age = known === undefined ? "too_stale" : ageOf(known.atMs, now, deps.freshness);
      if (known === undefined || age === "too_stale") return fetch(key, ctx, version);
      if (age === "stale" && now >= known.retryAtMs) {
        known.retryAtMs = now + retryPauseMs;
        fetch(key, ctx, version).catch(() => {});
      }
      return known.limits;
    },
    dropBelow: (tenantId, version) =>
      kept.removeWhere((known) => known.tenantId === tenantId && known.version < version),
  };
};

const maxCredits = BigInt(Number.MAX_SAFE_INTEGER);

/** policy.md §8, also for plugins that did not come through `parseLimits`. */
const areValid = ({ standard, premium }: UserLimits): boolean =>
  [standard, premium].every(({ daily, monthly }) =>
    [daily, monthly].every((limit) => typeof limit === "bigint" && limit >= 0n && limit <= maxCredits),
  );
