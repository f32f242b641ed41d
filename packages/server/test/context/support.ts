import { type AssembledContext, assembleContext, type ContextInput } from "../../src/context/assemble.ts";
import { itemTokens } from "../../src/context/estimate.ts";
import type { RecentMessage } from "../../src/messages/store.ts";
import type { ModelEntry } from "../../src/policy/snapshot.ts";
import type { EstimationBudgets } from "../../src/quota/estimate.ts";

export const defaultBudgets: EstimationBudgets = {
  bytesPerTokenConservative: 4,
  fixedOverheadTokens: 100,
  safetyMarginPct: 10,
  imageTokenBudget: 1_000,
  toolSurchargeTokens: 500,
  webSearchSurchargeTokens: 500,
  codeInterpreterSurchargeTokens: 1_000,
  minimalGenerationFloor: 50,
};

/** The smallest model of policy.md §6, without a system prompt. */
export const model = (change: Partial<ModelEntry> = {}): ModelEntry => ({
  id: "m",
  providerModelId: "m-1",
  providerId: "openai",
  providerDisplayName: "OpenAI",
  displayName: "M",
  description: "",
  icon: "",
  tier: "standard",
  enabled: true,
  multimodalCapabilities: [],
  contextWindow: 4_096,
  maxInputTokens: 4_096,
  maxOutputTokens: 1_024,
  inputMultiplierMicro: 1n,
  outputMultiplierMicro: 1n,
  multiplierDisplay: "1x",
  estimationBudgets: defaultBudgets,
  maxNumResults: 7,
  webSearchContextSize: "low",
  maxToolCalls: 2,
  systemPrompt: "",
  threadSummaryPrompt: "",
  generalConfig: {
    maxFileSizeMb: 25,
    apiParams: {},
    toolSupport: {
      webSearch: true,
      fileSearch: true,
      codeInterpreter: true,
      imageGeneration: false,
      mcp: false,
    },
  },
  ...change,
});

export const noTools = { fileSearch: false, webSearch: false, codeInterpreter: false };
export const allTools = { fileSearch: true, webSearch: true, codeInterpreter: true };

/** A request that fits: one short message to `model()`, nothing else. */
export const input = (change: Partial<ContextInput> = {}): ContextInput => ({
  model: model(),
  maxOutputTokensApplied: 1_024,
  offered: noTools,
  guards: { webSearch: "", fileSearch: "", untrustedContent: "" },
  summary: null,
  recent: [],
  recentLimit: 10,
  userText: "now",
  imageFileIds: [],
  vectorStoreId: null,
  searchedOnly: null,
  searchedHere: false,
  codeFileIds: [],
  docSummaries: [],
  ...change,
});

const roles = new Map<string, RecentMessage["role"]>([
  ["u", "user"],
  ["a", "assistant"],
  ["s", "system"],
]);

/** Stored messages as the store reads them, written oldest first: `"u:…"`, `"a:…"`, `"s:…"`. */
export const history = (...lines: readonly string[]): RecentMessage[] =>
  lines
    .map((line, index) => {
      const role = roles.get(line.charAt(0));
      if (role === undefined) throw new Error(`no role in ${line}`);
      return { id: `${index}`, role, content: line.slice(2), createdAt: "2026-01-01T00:00:00.000000Z" };
    })
    .reverse();

export type Fitting = Extract<AssembledContext, { kind: "fits" }>;

/** Assembles what must fit. */
export const assembled = (change: Partial<ContextInput> = {}): Fitting => {
  const context = assembleContext(input(change));
  if (context.kind !== "fits") throw new Error(`does not fit: ${JSON.stringify(context)}`);
  return context;
};

/** The messages sent, as `history` writes them; images as `<id>`. */
export const sent = (context: Fitting): string[] =>
  context.request.messages.map(
    ({ role, content }) =>
      `${role.charAt(0)}:${content.map((part) => ("text" in part ? part.text : `<${"imageFileId" in part ? part.imageFileId : ""}>`)).join("")}`,
  );

/** The item estimate with default budgets. */
export const cost = (text: string): number => itemTokens(text, defaultBudgets);
