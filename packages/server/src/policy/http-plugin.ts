import { Agent } from "undici";
import { z } from "zod";
import type { UserId } from "../auth/actor.ts";
import { type Config, ConfigError } from "../config/schema.ts";
import { Secret } from "../config/secret.ts";
import { parseLimits, parseSnapshot } from "./catalog.ts";
import { type HttpClient, publish, read } from "./http-calls.ts";
import {
  InvalidSnapshotError,
  type ModelPolicyPlugin,
  type PluginContext,
  PolicyPluginError,
} from "./plugin.ts";

type Settings = Config["plugins"]["model_policy"]["http"];

export interface HttpPluginDeps {
  readonly providerIds: ReadonlySet<string>;
  /** `policy_cache.plugin_timeout_ms`; bounds a read with its retries. */
  readonly timeoutMs: number;
  /** The value of an environment variable. */
  readonly env: (name: string) => string | undefined;
}

const section = "plugins.model_policy.http";
const connections = 16;

const version = z.int().min(1).transform(BigInt);
const latest = z.object({ policy_version: version, generated_at: z.iso.datetime({ offset: true }) });
const snapshotAnswer = z.object({
  policy_version: version,
  snapshot: z.record(z.string(), z.unknown()),
});
const limitsAnswer = z.object({ user_id: z.string(), policy_version: version, user_limits: z.unknown() });
const license = z.object({ active: z.boolean() });

/**
 * A policy service behind HTTP (policy.md §12). Throws `ConfigError` when the base URL or the
 * credential's environment variable is missing.
 */
export const createHttpPlugin = (settings: Settings, deps: HttpPluginDeps): ModelPolicyPlugin => {
  const client = createClient(settings, deps);
  const get = <T>(ctx: PluginContext, path: string, schema: z.ZodType<T>): Promise<T> =>
    read(client, ctx, path, schema);
  return {
    getCurrentPolicyVersion: async (ctx) => {
      const answer = await get(ctx, `/v1/policies/latest?user_id=${segment(ctx.userId)}`, latest);
      return { policyVersion: answer.policy_version, generatedAt: new Date(answer.generated_at) };
    },
    getPolicySnapshot: async (ctx, asked) => {
      const answer = await get(ctx, `/v1/policies/${asked}?user_id=${segment(ctx.userId)}`, snapshotAnswer);
      requireSame("policy_version", answer.policy_version, asked);
      const options = { providerIds: deps.providerIds, httpDefaults: true };
      const parsed = parseSnapshot(asked, answer.snapshot, options);
      if ("problems" in parsed) throw new InvalidSnapshotError(parsed.problems);
      return parsed.snapshot;
    },
    getUserLimits: async (ctx, asked) => {
      const path = `/v1/users/${segment(ctx.userId)}/limits?policy_version=${asked}`;
      const answer = await get(ctx, path, limitsAnswer);
      requireSame("policy_version", answer.policy_version, asked);
      requireSame("user_id", answer.user_id.toLowerCase(), ctx.userId);
      const parsed = parseLimits(answer.user_limits);
      if ("limits" in parsed) return parsed.limits;
      const keys = parsed.problems.map(({ key }) => key).join(", ");
      throw new PolicyPluginError("internal", `the user's limits are invalid: ${keys}`);
    },
    checkUserLicense: (ctx) => get(ctx, `/v1/users/${segment(ctx.userId)}/license`, license),
    publishUsage: (event, signal) => publish(client, event, signal),
    close: () => client.agent.close(),
  };
};

const createClient = ({ base_url, auth, retries }: Settings, deps: HttpPluginDeps): HttpClient => {
  if (base_url === undefined) throw new ConfigError([{ key: `${section}.base_url`, message: "is required" }]);
  return {
    agent: new Agent({ connections, keepAliveTimeout: 30_000 }),
    baseUrl: base_url.replace(/\/+$/, ""),
    credential: auth.value_env === undefined ? null : credentialOf(auth.header, auth.value_env, deps),
    retries,
    timeoutMs: deps.timeoutMs,
  };
};

const credentialOf = (header: string, name: string, deps: HttpPluginDeps): HttpClient["credential"] => {
  // A final line break, as files and secret stores add one, would make a header invalid.
  const value = deps.env(name)?.trim() ?? "";
  if (value !== "") return { header, value: new Secret(value) };
  const message = `names the environment variable ${name}, which is not set`;
  throw new ConfigError([{ key: `${section}.auth.value_env`, message }]);
};

const segment = (userId: UserId): string => encodeURIComponent(userId);

const requireSame = <T>(name: string, answered: T, asked: T): void => {
  if (answered !== asked) {
    throw new PolicyPluginError("internal", `the policy service answered for another ${name}`);
  }
};
