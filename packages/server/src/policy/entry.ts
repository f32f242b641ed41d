import { z } from "zod";
import { isCleanText } from "../http/body.ts";
import type { ApiParams } from "../providers/contract.ts";
import type { GeneralConfig, ModelEntry } from "./snapshot.ts";

/** The rules of one catalog entry (policy.md §2), on its snake_case form. Unknown members are dropped. */

// Ids reach columns and snapshots a jsonb column; neither can hold U+0000 or half a character.
const text = () => z.string().refine(isCleanText, "must be valid Unicode without U+0000");
const nonEmpty = () => text().refine((value) => value !== "", "must not be empty");
const modelId = () =>
  nonEmpty().refine((value) => [...value].length <= 1_024, "must be at most 1024 characters");
const tokens = () => z.int().min(1).max(10_000_000);
const multiplier = () => z.int().min(1).max(10_000_000_000);
const atLeast = (min: number, fallback: number) => z.int().min(min).default(fallback);
const flag = () => z.boolean().default(false);
const flags = (...names: readonly string[]) =>
  z.object(Object.fromEntries(names.map((name) => [name, z.boolean().optional()]))).optional();

const isStorableJson = (value: unknown): boolean => {
  let clean = true;
  try {
    JSON.stringify(value, (key, member: unknown) => {
      clean &&= isCleanText(key) && (typeof member !== "string" || isCleanText(member));
      return member;
    });
  } catch {
    return false;
  }
  return clean;
};

const tier = z
  .enum(["standard", "premium", "Standard", "Premium"])
  .transform((spelling) => (/^s/i.test(spelling) ? "standard" : "premium"));

const estimationBudgets = z.object({
  bytes_per_token_conservative: atLeast(1, 4),
  fixed_overhead_tokens: atLeast(0, 100),
  safety_margin_pct: atLeast(0, 10),
  image_token_budget: atLeast(0, 1_000),
  tool_surcharge_tokens: atLeast(0, 500),
  web_search_surcharge_tokens: atLeast(0, 500),
  code_interpreter_surcharge_tokens: atLeast(0, 1_000),
  minimal_generation_floor: atLeast(1, 50),
});

const toolSupport = z.object({
  web_search: flag(),
  file_search: flag(),
  image_generation: flag(),
  code_interpreter: flag(),
  mcp: flag(),
});

const apiParams = z
  .object({
    temperature: z.number().exactOptional(),
    top_p: z.number().exactOptional(),
    frequency_penalty: z.number().exactOptional(),
    presence_penalty: z.number().exactOptional(),
    stop: z.array(text()).default([]),
    extra_body: z.unknown().refine(isStorableJson, "must be JSON of valid Unicode without U+0000").optional(),
    reasoning_effort: text().nullish(),
  })
  .transform(({ stop, extra_body, reasoning_effort, ...sampling }): ApiParams => {
    return {
      ...sampling,
      ...(stop.length === 0 ? {} : { stop }),
      ...(extra_body === undefined || extra_body === null ? {} : { extra_body }),
      ...(typeof reasoning_effort === "string" ? { reasoning_effort } : {}),
    };
  });

const generalConfig = z.object({
  // Informational: checked, then dropped.
  type: text().optional(),
  available_from: z.iso.datetime({ offset: true }).optional(),
  features: flags("streaming", "structured_output"),
  supported_endpoints: flags(
    "chat_completions",
    "responses",
    "embeddings",
    "image_generation",
    "audio_speech_generation",
    "audio_transcription",
    "audio_translation",
  ),
  max_file_size_mb: z.int().min(1),
  api_params: apiParams,
  tool_support: toolSupport,
});

const fields = z.object({
  id: modelId(),
  provider_model_id: nonEmpty(),
  provider_id: nonEmpty(),
  provider_display_name: text(),
  display_name: nonEmpty(),
  description: text().default(""),
  icon: text().default(""),
  tier,
  enabled: flag(),
  multimodal_capabilities: z.array(text()).default([]),
  context_window: tokens(),
  max_input_tokens: tokens(),
  max_output_tokens: tokens(),
  input_tokens_credit_multiplier_micro: multiplier(),
  output_tokens_credit_multiplier_micro: multiplier(),
  multiplier_display: text().default(""),
  estimation_budgets: estimationBudgets.prefault({}),
  max_num_results: z.int().min(1),
  web_search_context_size: z.enum(["low", "medium", "high"]).default("low"),
  max_tool_calls: atLeast(1, 2),
  system_prompt: text().default(""),
  thread_summary_prompt: text().default(""),
  preference: z.object({ is_default: flag(), sort_order: z.int().default(0) }).nullish(),
  general_config: generalConfig,
});

type Fields = z.output<typeof fields>;

const generalConfigOf = (config: Fields["general_config"]): GeneralConfig => ({
  maxFileSizeMb: config.max_file_size_mb,
  apiParams: config.api_params,
  toolSupport: {
    webSearch: config.tool_support.web_search,
    fileSearch: config.tool_support.file_search,
    codeInterpreter: config.tool_support.code_interpreter,
    imageGeneration: config.tool_support.image_generation,
    mcp: config.tool_support.mcp,
  },
});

/** Of a catalog entry, or of the configuration, which writes them alike. */
export const budgetsOf = (budgets: Fields["estimation_budgets"]): ModelEntry["estimationBudgets"] => ({
  bytesPerTokenConservative: budgets.bytes_per_token_conservative,
  fixedOverheadTokens: budgets.fixed_overhead_tokens,
  safetyMarginPct: budgets.safety_margin_pct,
  imageTokenBudget: budgets.image_token_budget,
  toolSurchargeTokens: budgets.tool_surcharge_tokens,
  webSearchSurchargeTokens: budgets.web_search_surcharge_tokens,
  codeInterpreterSurchargeTokens: budgets.code_interpreter_surcharge_tokens,
  minimalGenerationFloor: budgets.minimal_generation_floor,
});

const toModelEntry = (entry: Fields): ModelEntry => ({
  id: entry.id,
  providerModelId: entry.provider_model_id,
  providerId: entry.provider_id,
  providerDisplayName: entry.provider_display_name,
  displayName: entry.display_name,
  description: entry.description,
  icon: entry.icon,
  tier: entry.tier,
  enabled: entry.enabled,
  multimodalCapabilities: entry.multimodal_capabilities,
  contextWindow: entry.context_window,
  maxInputTokens: entry.max_input_tokens,
  maxOutputTokens: entry.max_output_tokens,
  inputMultiplierMicro: BigInt(entry.input_tokens_credit_multiplier_micro),
  outputMultiplierMicro: BigInt(entry.output_tokens_credit_multiplier_micro),
  multiplierDisplay: entry.multiplier_display,
  estimationBudgets: budgetsOf(entry.estimation_budgets),
  maxNumResults: entry.max_num_results,
  webSearchContextSize: entry.web_search_context_size,
  maxToolCalls: entry.max_tool_calls,
  systemPrompt: entry.system_prompt,
  threadSummaryPrompt: entry.thread_summary_prompt,
  ...(entry.preference
    ? { preference: { isDefault: entry.preference.is_default, sortOrder: entry.preference.sort_order } }
    : {}),
  generalConfig: generalConfigOf(entry.general_config),
});

/** One entry without aliases and with every required member; the result is a `ModelEntry`. */
export const entrySchema = fields.transform(toModelEntry);
