import type { ProviderRequest } from "../providers/contract.ts";
import type { Candidate } from "../quota/cascade.ts";
import type { Plan } from "./preflight.ts";

/** What the provider of the effective model is asked. */
export const providerRequest = (
  plan: Plan,
  candidate: Candidate,
  assembled: Pick<ProviderRequest, "messages" | "systemInstructions" | "tools">,
  turnId: string,
): ProviderRequest => {
  const { model, offered } = candidate;
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
      features: [
        ...(offered.fileSearch ? (["file_search"] as const) : []),
        ...(offered.webSearch ? (["web_search"] as const) : []),
        ...(offered.codeInterpreter ? (["code_interpreter"] as const) : []),
      ],
    },
    params: model.generalConfig.apiParams,
    correlationId: turnId,
    traceparent: plan.request.traceparent,
  };
};
