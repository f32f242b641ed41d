import { stringifyJson } from "../lib/json.ts";
import type { SnapshotInput } from "./catalog.ts";
import type { KillSwitches, ModelEntry, PolicySnapshot } from "./snapshot.ts";

const switchesDocument = (switches: KillSwitches) => ({
  force_standard_tier: switches.forceStandardTier,
  disable_premium_tier: switches.disablePremiumTier,
  disable_web_search: switches.disableWebSearch,
  disable_file_search: switches.disableFileSearch,
  disable_images: switches.disableImages,
  disable_code_interpreter: switches.disableCodeInterpreter,
});

const budgetsDocument = (budgets: ModelEntry["estimationBudgets"]) => ({
  bytes_per_token_conservative: budgets.bytesPerTokenConservative,
  fixed_overhead_tokens: budgets.fixedOverheadTokens,
  safety_margin_pct: budgets.safetyMarginPct,
  image_token_budget: budgets.imageTokenBudget,
  tool_surcharge_tokens: budgets.toolSurchargeTokens,
  web_search_surcharge_tokens: budgets.webSearchSurchargeTokens,
  code_interpreter_surcharge_tokens: budgets.codeInterpreterSurchargeTokens,
  minimal_generation_floor: budgets.minimalGenerationFloor,
});

const generalConfigDocument = ({ maxFileSizeMb, apiParams, toolSupport }: ModelEntry["generalConfig"]) => ({
  max_file_size_mb: maxFileSizeMb,
  api_params: apiParams,
  tool_support: {
    web_search: toolSupport.webSearch,
    file_search: toolSupport.fileSearch,
    image_generation: toolSupport.imageGeneration,
    code_interpreter: toolSupport.codeInterpreter,
    mcp: toolSupport.mcp,
  },
});

const entryDocument = (model: ModelEntry) => ({
  id: model.id,
  provider_model_id: model.providerModelId,
  provider_id: model.providerId,
  provider_display_name: model.providerDisplayName,
  display_name: model.displayName,
  description: model.description,
  icon: model.icon,
  tier: model.tier,
  enabled: model.enabled,
  multimodal_capabilities: model.multimodalCapabilities,
  context_window: model.contextWindow,
  max_input_tokens: model.maxInputTokens,
  max_output_tokens: model.maxOutputTokens,
  input_tokens_credit_multiplier_micro: model.inputMultiplierMicro,
  output_tokens_credit_multiplier_micro: model.outputMultiplierMicro,
  multiplier_display: model.multiplierDisplay,
  estimation_budgets: budgetsDocument(model.estimationBudgets),
  max_num_results: model.maxNumResults,
  web_search_context_size: model.webSearchContextSize,
  max_tool_calls: model.maxToolCalls,
  system_prompt: model.systemPrompt,
  thread_summary_prompt: model.threadSummaryPrompt,
  ...(model.preference === undefined
    ? {}
    : { preference: { is_default: model.preference.isDefault, sort_order: model.preference.sortOrder } }),
  general_config: generalConfigDocument(model.generalConfig),
});

/**
 * A snapshot as JSON text in the names of policy.md §2, complete: `parseSnapshot` without defaults
 * gives the same snapshot back. It is what the table keeps.
 */
export const snapshotDocument = ({ modelCatalog, killSwitches }: PolicySnapshot): string => {
  const document: SnapshotInput = {
    model_catalog: modelCatalog.map(entryDocument),
    kill_switches: switchesDocument(killSwitches),
  };
  return stringifyJson(document);
};
