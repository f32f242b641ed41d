import { expect, vi } from "vitest";
import { type Actor, asTenantId, asUserId } from "../../src/auth/actor.ts";
import { policyCacheSection } from "../../src/config/policy.ts";
import type { Db } from "../../src/db/pool.ts";
import type { Clock } from "../../src/lib/clock.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { parseSnapshot, type SnapshotOptions } from "../../src/policy/catalog.ts";
import type { ModelPolicyPlugin, PluginContext } from "../../src/policy/plugin.ts";
import { createPolicyService, type PolicyService } from "../../src/policy/service.ts";
import type { ModelEntry, PolicySnapshot, UserLimits } from "../../src/policy/snapshot.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { recordingLogger } from "../http/support.ts";

export const tenant = asTenantId("00000000-0000-4000-8000-00000000000a");
export const user: Pick<Actor, "tenantId" | "userId"> = {
  tenantId: tenant,
  userId: asUserId("00000000-0000-4000-8000-0000000000b1"),
};

/** The providers of the test configuration. */
export const providerIds: ReadonlySet<string> = new Set(["openai", "other"]);

export type RawEntry = Record<string, unknown>;

/** A catalog entry as written, with every required member: enabled, standard, no tools, no default. */
export const rawEntry = (change: RawEntry = {}): RawEntry => ({
  id: "s",
  provider_model_id: "deployed-s",
  provider_id: "openai",
  provider_display_name: "OpenAI",
  display_name: "Model S",
  tier: "standard",
  enabled: true,
  context_window: 128_000,
  max_input_tokens: 100_000,
  max_output_tokens: 8_192,
  input_tokens_credit_multiplier_micro: 1_000_000,
  output_tokens_credit_multiplier_micro: 3_000_000,
  max_num_results: 5,
  general_config: { max_file_size_mb: 25, api_params: {}, tool_support: {} },
  ...change,
});

export const asDefault = { preference: { is_default: true, sort_order: 0 } };

export const parse = (catalog: unknown, options: Partial<SnapshotOptions> = {}, switches: unknown = {}) =>
  parseSnapshot(
    7n,
    { model_catalog: catalog, kill_switches: switches },
    { providerIds, httpDefaults: false, ...options },
  );

/** A valid snapshot of these entries. */
export const snapshotOf = (
  entries: readonly RawEntry[],
  version = 7n,
  switches: unknown = {},
): PolicySnapshot => {
  const input = { model_catalog: entries, kill_switches: switches };
  const parsed = parseSnapshot(version, input, { providerIds, httpDefaults: false });
  if ("snapshot" in parsed) return parsed.snapshot;
  throw new Error(JSON.stringify(parsed.problems));
};

/** A valid model. */
export const modelOf = (change: RawEntry = {}): ModelEntry => {
  const [model] = snapshotOf([rawEntry(change)]).modelCatalog;
  if (model === undefined) throw new Error("no model");
  return model;
};

export const limits: UserLimits = {
  standard: { daily: 100n, monthly: 1_000n },
  premium: { daily: 50n, monthly: 500n },
};

/** A policy source a test drives: what it says, whether it fails, and what it was asked. */
export interface FakeSource extends ModelPolicyPlugin {
  latest: bigint;
  /** Thrown by every getter while set. */
  failure: Error | null;
  /** Awaited by every getter: a gate the test opens. */
  gate: Promise<void>;
  snapshots: Map<bigint, () => PolicySnapshot>;
  limits: () => UserLimits;
  /** `version`, `snapshot 7`, `limits 7 <user>`. */
  readonly calls: string[];
  readonly users: string[];
}

/** Each version's catalog holds one model named after it. */
export const versionSnapshot = (version: bigint): PolicySnapshot =>
  snapshotOf([rawEntry({ id: `model-${version}` })], version);

export const fakeSource = (change: Partial<FakeSource> = {}): FakeSource => {
  const answer = async <T>(ctx: PluginContext, call: string, value: () => T): Promise<T> => {
    source.calls.push(call);
    source.users.push(ctx.userId);
    await source.gate;
    if (source.failure !== null) throw source.failure;
    return value();
  };
  const source: FakeSource = {
    latest: 7n,
    failure: null,
    gate: Promise.resolve(),
    snapshots: new Map(),
    limits: () => limits,
    calls: [],
    users: [],
    getCurrentPolicyVersion: (ctx) =>
      answer(ctx, "version", () => ({ policyVersion: source.latest, generatedAt: new Date(0) })),
    getPolicySnapshot: (ctx, version) =>
      answer(ctx, `snapshot ${version}`, () =>
        (source.snapshots.get(version) ?? (() => versionSnapshot(version)))(),
      ),
    getUserLimits: (ctx, version) =>
      answer(ctx, `limits ${version} ${ctx.userId.slice(-2)}`, () => source.limits()),
    publishUsage: async () => {},
    ...change,
  };
  return source;
};

export interface TestService {
  readonly service: PolicyService;
  readonly clock: Clock & { advance(secs: number): void };
  readonly lines: readonly Record<string, unknown>[];
  /** `policy_refresh` by result. */
  readonly results: Record<string, number>;
}

/** A service over the source with a clock that only moves when told. */
export const testService = (db: Db, source: ModelPolicyPlugin, config: object = {}): TestService => {
  let nowMs = 1_000_000_000;
  const clock = {
    now: () => nowMs,
    advance: (secs: number) => {
      nowMs += secs * 1_000;
    },
  };
  const { logger, lines } = recordingLogger();
  const results: Record<string, number> = {};
  const service = createPolicyService({
    plugin: source,
    config: policyCacheSection.parse(config),
    providerIds,
    db,
    clock,
    logger,
    metrics: {
      ...noMetrics,
      count: (_name, labels) => {
        const { result } = labels as { result: string };
        results[result] = (results[result] ?? 0) + 1;
      },
    },
  });
  return { service, clock, lines, results };
};

/** A gate that getters wait at until it is opened. */
export const closedGate = () => Promise.withResolvers<void>();

/** A tenant nobody else uses, with a user. */
export const newUser = () => ({
  tenantId: asTenantId(uuidV4()),
  userId: asUserId("00000000-0000-4000-8000-0000000000b1"),
});

/** A service for one new user of a new tenant, with handles on everything around it. */
export const startService = (db: Db, change: Partial<FakeSource> = {}, config: object = {}) => {
  const source = fakeSource(change);
  const user = newUser();
  const { service, ...rest } = testService(db, source, config);
  const version = async (): Promise<bigint> => (await service.resolve(user)).version;
  /** Makes the next request see a stale version, and waits until its refresh is over. */
  const refresh = async (): Promise<void> => {
    const before = Object.values(rest.results).reduce((sum, count) => sum + count, 0);
    rest.clock.advance(31);
    await service.resolve(user);
    await vi.waitFor(() => {
      expect(Object.values(rest.results).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(before);
    });
  };
  return { source, user, service, version, refresh, ...rest };
};
