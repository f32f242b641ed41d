import type { UsageEvent } from "./events.ts";

const settledBy: Record<UsageEvent["billing_outcome"], readonly UsageEvent["settlement_method"][]> = {
  completed: ["actual", "estimated"],
  failed: ["actual", "estimated", "released"],
  aborted: ["actual", "estimated", "released"],
  system_task: ["none"],
};

const outcomeOf = (event: UsageEvent): UsageEvent["billing_outcome"] => {
  if (event.requester_type === "system" && event.system_task_type !== undefined) return "system_task";
  if (event.terminal_state === "completed") return "completed";
  if (event.terminal_state === "cancelled") return "aborted";
  // An orphan without preflight columns took no reserve: `failed`/`released` (turns.md §12).
  const orphan = event.error_code === "orphan_timeout" && event.settlement_method !== "released";
  return orphan ? "aborted" : "failed";
};

/**
 * Whether state, outcome and settlement go together (outbox.md §4.1, "Legal combinations"). Anything
 * else is a bug that is told and counted; the event is written all the same, because billing data is
 * never withheld.
 */
export const isConsistentUsage = (event: UsageEvent): boolean => {
  const outcome = outcomeOf(event);
  if (event.billing_outcome !== outcome) return false;
  if (event.terminal_state === "failed" && outcome === "aborted")
    return event.settlement_method === "estimated";
  return settledBy[outcome].includes(event.settlement_method);
};

/** The key of a user turn: `{tenant}/{turn}/{request}`, 32 hex digits each (outbox.md §6). */
export const turnDedupeKey = (tenantId: string, turnId: string, requestId: string): string =>
  [tenantId, turnId, requestId].map(hex).join("/");

/** The key of a system task: `{tenant}/{task type}/{system request}` (outbox.md §6). */
export const taskDedupeKey = (tenantId: string, taskType: string, systemRequestId: string): string =>
  [hex(tenantId), taskType, hex(systemRequestId)].join("/");

/** Whether the key is not empty and belongs to the tenant of its event. */
export const isDedupeKeyOf = (key: string, tenantId: string): boolean => key.split("/")[0] === hex(tenantId);

const hex = (uuid: string): string => uuid.replaceAll("-", "").toLowerCase();
