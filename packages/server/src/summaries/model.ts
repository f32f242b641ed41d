import { findModel } from "../policy/select.ts";
import type { ModelEntry, PolicySnapshot } from "../policy/snapshot.ts";

const defaultModelId = "gpt-4.1-mini";

/**
 * The model that summarises (context.md §6.3 step 4): the configured one, else the cheapest enabled one
 * of the standard tier. Null when there is none.
 */
export const summaryModel = (snapshot: PolicySnapshot, configuredId: string): ModelEntry | null => {
  const configured = findModel(snapshot, configuredId === "" ? defaultModelId : configuredId);
  if (configured?.enabled) return configured;
  const [cheapest] = cheapestFirst(
    snapshot.modelCatalog.filter((model) => model.enabled && model.tier === "standard"),
  );
  return cheapest ?? null;
};

/** Models in the order they are taken for work nobody pays for. */
export const cheapestFirst = (models: readonly ModelEntry[]): ModelEntry[] =>
  models.toSorted((a, b) => Number(a.tier === "premium") - Number(b.tier === "premium") || byPrice(a, b));

const byPrice = (a: ModelEntry, b: ModelEntry): number =>
  Number(a.inputMultiplierMicro - b.inputMultiplierMicro) ||
  Number(a.outputMultiplierMicro - b.outputMultiplierMicro);
