import type { ModelEntry, PolicySnapshot } from "./snapshot.ts";

/**
 * The model of a new chat that names none (policy.md §3): the first enabled default in catalog order,
 * whatever its tier, else the first enabled model; undefined when nothing is enabled.
 */
export const defaultModel = ({ modelCatalog }: PolicySnapshot): ModelEntry | undefined => {
  const enabled = modelCatalog.filter((model) => model.enabled);
  return enabled.find((model) => model.preference?.isDefault === true) ?? enabled[0];
};

/** The entry with this id, enabled or not. */
export const findModel = ({ modelCatalog }: PolicySnapshot, id: string): ModelEntry | undefined =>
  modelCatalog.find((model) => model.id === id);
