import { z } from "zod";
import type { Problem } from "../config/check.ts";
import { dottedKey } from "../config/schema.ts";
import { withoutAliases, writtenName } from "./aliases.ts";
import { entrySchema } from "./entry.ts";
import type { KillSwitches, ModelEntry, PolicySnapshot, UserLimits } from "./snapshot.ts";

/** A snapshot before any rule was applied: what plugins, configuration and the table hold. */
export interface SnapshotInput {
  readonly model_catalog?: unknown;
  readonly kill_switches?: unknown;
}

export interface SnapshotOptions {
  /** Keys of the configuration's `providers`: an enabled entry must name one. */
  readonly providerIds: ReadonlySet<string>;
  /** Complete the entries by the defaults of the HTTP contract (policy.md §2, §12). */
  readonly httpDefaults: boolean;
}

const killSwitches = z
  .object({
    force_standard_tier: z.boolean().default(false),
    disable_premium_tier: z.boolean().default(false),
    disable_web_search: z.boolean().default(false),
    disable_file_search: z.boolean().default(false),
    disable_images: z.boolean().default(false),
    disable_code_interpreter: z.boolean().default(false),
  })
  .transform(
    (switches): KillSwitches => ({
      forceStandardTier: switches.force_standard_tier,
      disablePremiumTier: switches.disable_premium_tier,
      disableWebSearch: switches.disable_web_search,
      disableFileSearch: switches.disable_file_search,
      disableImages: switches.disable_images,
      disableCodeInterpreter: switches.disable_code_interpreter,
    }),
  );

const problemAt = (path: readonly PropertyKey[], message: string): Problem => ({
  key: dottedKey(path),
  message: message.replace(/^Invalid (?:input|option|string|ISO datetime): ?/, ""),
});

/** An entry that passed its own rules, with its place in the catalog. */
interface Placed {
  readonly at: number;
  readonly model: ModelEntry;
}

const parseEntries = (
  raw: readonly unknown[],
  options: SnapshotOptions,
): { readonly placed: readonly Placed[]; readonly problems: readonly Problem[] } => {
  const placed: Placed[] = [];
  const problems: Problem[] = [];
  for (const [at, entry] of raw.entries()) {
    const parsed = entrySchema.safeParse(withoutAliases(entry, options));
    if (parsed.success) {
      placed.push({ at, model: parsed.data });
      continue;
    }
    for (const { path, message } of parsed.error.issues) {
      const [member, ...rest] = path;
      const name = writtenName(entry, member);
      problems.push(
        problemAt(["model_catalog", at, ...(name === undefined ? [] : [name]), ...rest], message),
      );
    }
  }
  return { placed, problems };
};

/** The rules between entries: ids are unique, a tier has one enabled default, enabled models a provider. */
const compareEntries = (placed: readonly Placed[], { providerIds }: SnapshotOptions): Problem[] => {
  const problems: Problem[] = [];
  const ids = new Set<string>();
  const defaults = new Set<ModelEntry["tier"]>();
  const report = (at: number, member: string, message: string): void => {
    problems.push(problemAt(["model_catalog", at, member], message));
  };
  for (const { at, model } of placed) {
    if (ids.has(model.id)) report(at, "id", "is used twice");
    ids.add(model.id);
    if (!model.enabled) continue;
    if (!providerIds.has(model.providerId)) report(at, "provider_id", "names no configured provider");
    if (model.preference?.isDefault !== true) continue;
    if (defaults.has(model.tier)) report(at, "preference.is_default", `is a second default of ${model.tier}`);
    defaults.add(model.tier);
  }
  return problems;
};

/**
 * A snapshot by the rules of policy.md §2 and §7, or everything that is wrong with it. One bad value
 * invalidates the whole. Messages name keys, never values.
 */
export const parseSnapshot = (
  version: bigint,
  input: SnapshotInput,
  options: SnapshotOptions,
): { readonly snapshot: PolicySnapshot } | { readonly problems: readonly Problem[] } => {
  const problems: Problem[] = [];
  if (version < 1n || version > BigInt(Number.MAX_SAFE_INTEGER)) {
    problems.push(problemAt(["policy_version"], "must be from 1 to 2^53 - 1"));
  }
  const switches = killSwitches.safeParse(input.kill_switches ?? {});
  for (const { path, message } of switches.error?.issues ?? []) {
    problems.push(problemAt(["kill_switches", ...path], message));
  }
  if (!Array.isArray(input.model_catalog)) {
    problems.push(problemAt(["model_catalog"], "must be a list, which may be empty"));
    return { problems };
  }
  const entries = parseEntries(input.model_catalog, options);
  problems.push(...entries.problems, ...compareEntries(entries.placed, options));
  if (problems.length > 0 || !switches.success) return { problems };
  const modelCatalog = entries.placed.map(({ model }) => model);
  return { snapshot: { policyVersion: version, modelCatalog, killSwitches: switches.data } };
};

const credits = z.int().min(0).transform(BigInt);

const tierLimits = z
  .object({ limit_daily_credits_micro: credits, limit_monthly_credits_micro: credits })
  .transform((limits) => ({
    daily: limits.limit_daily_credits_micro,
    monthly: limits.limit_monthly_credits_micro,
  }));

const userLimits = z.object({ standard: tierLimits, premium: tierLimits });

/** The credit limits of a user (policy.md §8), or what makes them invalid; other members are ignored. */
export const parseLimits = (
  input: unknown,
): { readonly limits: UserLimits } | { readonly problems: readonly Problem[] } => {
  const parsed = userLimits.safeParse(input);
  return parsed.success
    ? { limits: parsed.data }
    : { problems: parsed.error.issues.map(({ path, message }) => problemAt(path, message)) };
};
