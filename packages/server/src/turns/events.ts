import { type TurnAudit, turnAuditEvent } from "../audit/event.ts";
import type { CountHit } from "../audit/redact.ts";
import type { OutboxEvent } from "../outbox/events.ts";
import { turnUsageEvent } from "../usage/event.ts";
import type { Bill } from "./billing.ts";
import type { AuditFacts, Ending } from "./ending.ts";
import type { FinalizedRow } from "./finalize-store.ts";
import type { ToolCounts } from "./turn.ts";

/**
 * The events of a finalized turn, in the order of outbox.md §2: usage, then audit. Both are made of
 * the row the compare-and-set returned, so that they tell what was settled.
 */
export const turnEvents = (
  row: FinalizedRow,
  ending: Ending,
  bill: Bill,
  tools: ToolCounts,
  countRedaction?: CountHit,
): OutboxEvent[] => {
  const common = {
    tenantId: ending.tenantId,
    userId: row.requesterUserId,
    chatId: row.chatId,
    turnId: row.id,
    requestId: row.requestId,
    requesterType: row.requesterType,
    effectiveModel: row.reserve?.effectiveModel ?? "",
    selectedModel: row.selectedModel,
    usage: ending.usage,
    errorCode: ending.errorCode,
    timestamp: row.completedAt,
  };
  return [
    {
      kind: "usage",
      event: turnUsageEvent({
        ...common,
        terminalState: ending.state,
        billingOutcome: bill.outcome,
        settlementMethod: bill.method,
        actualCreditsMicro: bill.committedCreditsMicro,
        reservedCreditsMicro: row.reserve?.reservedCreditsMicro ?? 0n,
        overshootCapped: bill.overshootCapped,
        policyVersionApplied: row.reserve?.policyVersionApplied ?? 0n,
        webSearchCalls: tools.webSearch,
        codeInterpreterCalls: tools.codeInterpreter,
        fileSearchCalls: tools.fileSearch,
        incomplete: ending.incomplete,
      }),
    },
    {
      kind: "audit",
      event: turnAuditEvent(
        {
          ...common,
          state: ending.state,
          policyVersionApplied: row.reserve?.policyVersionApplied ?? null,
          fileSearchCalls: tools.fileSearch,
          webSearchCalls: tools.webSearch,
          ...auditFacts(ending.audit),
        },
        countRedaction,
      ),
    },
  ];
};

const auditFacts = (
  facts: AuditFacts,
): Pick<TurnAudit, "latency" | "quota" | "license" | "prompt" | "response" | "attachments" | "traceId"> => ({
  latency: facts.latencyMs,
  quota: quotaDecision(facts.decision),
  // A turn that is known to have passed the gate says so; the watchdog knows nothing about it.
  ...(facts.decision === null ? {} : { license: { feature: "ai_chat", decision: "allow" } }),
  prompt: facts.prompt,
  response: facts.response,
  attachments: facts.attachments.map((one) => ({
    attachment_id: one.id,
    attachment_kind: one.kind,
    ...(one.kind === "image" ? { image_used_in_turn: true } : {}),
  })),
  traceId: facts.traceId,
});

const quotaDecision = (decision: AuditFacts["decision"]): TurnAudit["quota"] => {
  if (decision === null) return { decision: "unknown" };
  if (decision.kind === "allow") return { decision: "allow" };
  return { decision: "downgrade", downgrade_from: decision.from, downgrade_reason: decision.reason };
};
