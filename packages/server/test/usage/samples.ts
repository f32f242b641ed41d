import type { ReportedTokens, SystemTaskUsage, TurnUsage } from "../../src/usage/event.ts";

export const tokens: ReportedTokens = {
  inputTokens: 1_200,
  outputTokens: 340,
  cacheReadInputTokens: 1_000,
  cacheWriteInputTokens: 64,
  reasoningTokens: 128,
};

/** A completed turn of a user, charged by actual usage. */
export const completedTurn: TurnUsage = {
  tenantId: "11111111-1111-4111-8111-111111111111",
  userId: "22222222-2222-4222-8222-222222222222",
  chatId: "01890000-0000-7000-8000-000000000003",
  turnId: "44444444-4444-4444-8444-444444444444",
  requestId: "55555555-5555-4555-8555-555555555555",
  effectiveModel: "gpt-standard",
  selectedModel: "gpt-premium",
  terminalState: "completed",
  billingOutcome: "completed",
  settlementMethod: "actual",
  usage: tokens,
  actualCreditsMicro: 126_510n,
  reservedCreditsMicro: 250_000n,
  overshootCapped: false,
  policyVersionApplied: 7n,
  webSearchCalls: 1,
  codeInterpreterCalls: 0,
  fileSearchCalls: 2,
  timestamp: "2026-03-01T10:15:31.204518Z",
  requesterType: "user",
  errorCode: null,
  incomplete: null,
};

export const summaryTask: SystemTaskUsage = {
  tenantId: completedTurn.tenantId,
  chatId: completedTurn.chatId,
  systemRequestId: "66666666-6666-4666-8666-666666666666",
  systemTaskType: "thread_summary_update",
  model: "gpt-summary",
  selectedModel: "gpt-premium",
  usage: tokens,
  timestamp: "2026-03-01T10:15:31Z",
};
