import type { ErasureAudit } from "../../src/audit/erasure.ts";
import type { DeleteAudit, MutationAudit, TurnAudit } from "../../src/audit/event.ts";

const ids = {
  tenantId: "11111111-1111-4111-8111-111111111111",
  chatId: "01890000-0000-7000-8000-000000000003",
  turnId: "44444444-4444-4444-8444-444444444444",
};
const traceId = "0af7651916cd43dd8448eb211c80319c";
const timestamp = "2026-03-01T10:15:31.204518Z";

export const completedTurn: TurnAudit = {
  ...ids,
  userId: "22222222-2222-4222-8222-222222222222",
  requestId: "55555555-5555-4555-8555-555555555555",
  requesterType: "user",
  state: "completed",
  selectedModel: "gpt-premium",
  effectiveModel: "gpt-premium",
  policyVersionApplied: 7n,
  usage: {
    inputTokens: 1_200,
    outputTokens: 340,
    cacheReadInputTokens: 1_000,
    cacheWriteInputTokens: 64,
    reasoningTokens: 128,
  },
  latency: { ttftMs: 212.4, totalMs: 3_480.6 },
  quota: { decision: "allow" },
  errorCode: null,
  traceId,
  timestamp,
};

export const retry: MutationAudit = {
  ...ids,
  eventType: "turn_retry",
  requesterType: "user",
  actorUserId: "22222222-2222-4222-8222-222222222222",
  originalRequestId: "55555555-5555-4555-8555-555555555555",
  newRequestId: "77777777-7777-4777-8777-777777777777",
  traceId,
  timestamp,
};

export const deletion: DeleteAudit = {
  ...ids,
  requesterType: "user",
  actorUserId: "22222222-2222-4222-8222-222222222222",
  requestId: "55555555-5555-4555-8555-555555555555",
  timestamp,
};

export const erasure: ErasureAudit = {
  tenantId: ids.tenantId,
  userId: "22222222-2222-4222-8222-222222222222",
  chatId: ids.chatId,
  requestId: "66666666-6666-4666-8666-666666666666",
  reason: "chat_soft_delete",
  files: 12,
  vectorStores: 1,
  deletedAt: "2026-03-01T10:15:29.998999Z",
  erasedAt: timestamp,
};
