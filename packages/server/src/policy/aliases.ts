/** Other spellings and missing members of a catalog entry, resolved before its rules apply (policy.md §2, §12). */

type Raw = Readonly<Record<string, unknown>>;

export const isRecord = (value: unknown): value is Raw =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const aliases = { id: "model_id", enabled: "global_enabled" } as const;

const httpApiParams = { temperature: 0.7, top_p: 1, frequency_penalty: 0, presence_penalty: 0, stop: [] };

const httpGeneralConfig = (raw: unknown): unknown => {
  if (raw !== undefined && !isRecord(raw)) return raw;
  const params = raw?.["api_params"];
  return {
    max_file_size_mb: 25,
    tool_support: {},
    ...raw,
    api_params: params === undefined || isRecord(params) ? { ...httpApiParams, ...params } : params,
  };
};

/** Members the contract of the HTTP plugin lets be absent or names differently (policy.md §12). */
const httpMembers = (raw: Raw): Raw => ({
  max_input_tokens: raw["max_input_tokens"] ?? raw["context_window"],
  max_num_results: raw["max_num_results"] ?? 5,
  preference:
    raw["preference"] ?? (raw["is_default"] === undefined ? undefined : { is_default: raw["is_default"] }),
  general_config: httpGeneralConfig(raw["general_config"]),
});

/** The entry under its own member names; with `httpDefaults` also completed by the HTTP contract's defaults. */
export const withoutAliases = (raw: unknown, options: { readonly httpDefaults: boolean }): unknown =>
  isRecord(raw)
    ? {
        ...raw,
        ...(options.httpDefaults ? httpMembers(raw) : {}),
        id: raw["id"] ?? raw[aliases.id],
        enabled: raw["enabled"] ?? raw[aliases.enabled],
      }
    : raw;

/** The name a member goes by in this entry: problems are told in the words of whoever wrote it. */
export const writtenName = (raw: unknown, member: PropertyKey | undefined): PropertyKey | undefined => {
  if (!isRecord(raw) || (member !== "id" && member !== "enabled")) return member;
  return raw[member] === undefined && raw[aliases[member]] !== undefined ? aliases[member] : member;
};
