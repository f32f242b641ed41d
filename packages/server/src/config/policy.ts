import { z } from "zod";
import { databaseUrl, flag, httpUrl, int, millis, nonBlank, opaqueOptions, secret, secs } from "./fields.ts";

const credits = (fallback: number) => int(fallback, 0);

const tierLimits = (daily: number, monthly: number) =>
  z
    .strictObject({
      limit_daily_credits_micro: credits(daily),
      limit_monthly_credits_micro: credits(monthly),
    })
    .prefault({});

// The entries themselves are validated by the policy slice, which owns their rules (policy.md §2).
const staticPolicy = z
  .strictObject({
    model_catalog: z.array(z.record(z.string(), z.unknown())).optional(),
    kill_switches: z
      .strictObject({
        force_standard_tier: flag(false),
        disable_premium_tier: flag(false),
        disable_web_search: flag(false),
        disable_file_search: flag(false),
        disable_images: flag(false),
        disable_code_interpreter: flag(false),
      })
      .prefault({}),
    default_standard_limits: tierLimits(100_000_000, 1_000_000_000),
    default_premium_limits: tierLimits(50_000_000, 500_000_000),
  })
  .prefault({});

const httpPolicy = z
  .strictObject({
    base_url: httpUrl().optional(),
    auth: z
      .strictObject({
        header: nonBlank().default("Authorization"),
        /** Name of the environment variable that holds the header's value. */
        value_env: nonBlank().optional(),
      })
      .prefault({}),
    retries: int(1, 0, 5),
  })
  .prefault({});

// A plugin registered by the embedding program is named like this; start-up checks that it exists.
const pluginName = (fallback: string) =>
  z
    .string()
    .regex(/^[a-z][a-z0-9_-]*$/, "must be a plugin name: lower-case letters, digits, '_', '-'")
    .default(fallback);

// Not in ops.md §2: where the sinks of usage and audit events write to.
const sinkTarget = {
  /** `file`: one JSON object per line, flushed to disk before the event counts as delivered. */
  path: nonBlank().optional(),
  /** `file`: set aside before it grows beyond this; 0 = never. */
  max_file_bytes: int(104_857_600, 0),
  /** `http`: receives one POST per event with an idempotency key. */
  url: httpUrl().optional(),
  /** `http`: sent as a bearer token. */
  token: secret().optional(),
  /** `http`: from the connection to the status of the answer; the lease leaves usage 27.5 s. */
  timeout_secs: secs(25, 1, 27),
  /** `http`: signs every request. */
  secret: secret(16).optional(),
  /** `postgres`: another database than the server's own. */
  database_url: databaseUrl().optional(),
  /** `module`: a file whose default export makes a sink. */
  module: nonBlank().optional(),
  /** `module`: handed to it as it is. */
  options: opaqueOptions(),
};

export const sinkTypes = ["log", "file", "http", "postgres", "module"] as const;

/** Plugins: the policy source and the sinks of usage and audit events (policy.md §10–13). */
export const pluginsSection = z
  .strictObject({
    model_policy: z
      .strictObject({ type: pluginName("static"), static: staticPolicy, http: httpPolicy })
      .prefault({}),
    /**
     * Extends the specification: usage events normally go to the policy plugin's `publishUsage`
     * (policy.md §10); the sinks deliver them elsewhere instead.
     */
    usage: z
      .strictObject({
        type: z.enum(["policy_plugin", ...sinkTypes]).default("policy_plugin"),
        ...sinkTarget,
      })
      .prefault({}),
    /** `log` and `none` are the specification's (policy.md §13); the other sinks extend it. */
    audit: z.strictObject({ type: pluginName("log"), enabled: flag(true), ...sinkTarget }).prefault({}),
  })
  .prefault({});

/** Freshness of policy in memory (policy.md §9). */
export const policyCacheSection = z
  .strictObject({
    version_ttl_secs: secs(30, 1),
    snapshot_capacity: int(128, 1),
    limits_capacity: int(10_000, 1),
    limits_ttl_secs: secs(120, 60, 300),
    max_stale_secs: secs(900, 1),
    plugin_timeout_ms: millis(2_000, 1),
    reconcile_interval_secs: secs(300, 1),
  })
  .prefault({});
