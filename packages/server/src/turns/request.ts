import { bytesWithin } from "../context/estimate.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import type { ProviderRequest } from "../providers/contract.ts";
import type { Candidate } from "../quota/cascade.ts";
import type { Plan } from "./preflight.ts";
import type { PassageSearch } from "./running.ts";

/** The search that goes before the request: within the room the context has left for what it finds. */
export const passageSearch = (plan: Plan, model: ModelEntry, excerptTokens: number): PassageSearch | null =>
  excerptTokens === 0
    ? null
    : {
        question: plan.request.content,
        maxBytes: bytesWithin(excerptTokens, model.estimationBudgets),
        maxResults: model.maxNumResults,
      };

/** What the provider of the effective model is asked. */
export const providerRequest = (
  plan: Plan,
  candidate: Candidate,
  assembled: Pick<ProviderRequest, "messages" | "systemInstructions" | "tools">,
  turnId: string,
): ProviderRequest => {
  const { model } = candidate;
  const { tenantId, userId } = plan.actor;
  return {
    ...assembled,
    model: model.providerModelId,
    maxOutputTokens: candidate.maxOutputTokensApplied,
    maxToolCalls: model.maxToolCalls,
    userIdentity: { tenantId, userId },
    metadata: {
      tenantId,
      userId,
      chatId: plan.request.chatId,
      requestType: "chat",
      features: assembled.tools.flatMap(({ kind }) => (kind === "function" ? [] : [kind])),
    },
    params: model.generalConfig.apiParams,
    correlationId: turnId,
    traceparent: plan.request.traceparent,
  };
};
