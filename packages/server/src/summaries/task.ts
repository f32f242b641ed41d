import type { TenantId } from "../auth/actor.ts";
import type { Position } from "../context/position.ts";
import type { ThreadSummaryTaskPayload } from "../outbox/events.ts";
import type { Message, Verdict } from "../outbox/message.ts";
import { readThreadSummaryTask } from "../outbox/summary-task.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";

/** A task off the queue: the frozen range of one chat. */
export interface Task {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly systemRequestId: string;
  readonly base: Position | null;
  readonly target: Position;
}

/** The task of a message, or the verdict on one that cannot be read (context.md §6.3 step 1). */
export const readTask = (message: Message): Task | { readonly verdict: Verdict } => {
  try {
    return taskOf(readThreadSummaryTask(message.payload));
  } catch (error) {
    return { verdict: unreadableVerdict(error, message) };
  }
};

const taskOf = (payload: ThreadSummaryTaskPayload): Task => {
  const { base_frontier_created_at: baseAt, base_frontier_message_id: baseId } = payload;
  return {
    tenantId: payload.tenant_id as TenantId,
    chatId: payload.chat_id,
    systemRequestId: payload.system_request_id,
    base: baseAt === null || baseId === null ? null : { createdAt: baseAt, id: baseId },
    target: { createdAt: payload.frozen_target_created_at, id: payload.frozen_target_message_id },
  };
};
