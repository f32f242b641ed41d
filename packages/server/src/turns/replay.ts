import type { TenantId } from "../auth/actor.ts";
import type { Queryable } from "../db/pool.ts";
import { invariant } from "../lib/assert.ts";
import { findAnswer } from "../messages/store.ts";
import type { StreamEvent } from "./grammar.ts";
import { type LiveAttachments, liveCitations } from "./live-citations.ts";
import type { TurnLookup } from "./store.ts";

/**
 * Plays a completed turn again from what is stored (turns.md §6). Reads only: nothing in this module
 * can reach quota, outbox, audit or a provider. `liveAttachments` tells which cited attachments
 * still exist; citations of others are left out. Null when the turn was deleted or replaced since it was found.
 */
export const replayEvents = async (
  deps: { readonly db: Queryable; readonly liveAttachments: LiveAttachments },
  tenantId: TenantId,
  chatId: string,
  turn: Pick<TurnLookup, "requestId" | "assistantMessageId" | "effectiveModel">,
  selectedModel: string,
): Promise<readonly StreamEvent[] | null> => {
  invariant(turn.assistantMessageId !== null, "a completed turn has its message");
  const answer = await findAnswer(deps.db, tenantId, chatId, turn.assistantMessageId);
  if (answer === null) return null;
  const effectiveModel = turn.effectiveModel ?? selectedModel;
  const chat = { tenantId, chatId };
  const citations = await liveCitations(deps.liveAttachments, chat, answer.citations ?? []);
  const known = answer.inputTokens > 0n || answer.outputTokens > 0n;
  return [
    {
      event: "stream_started",
      data: { request_id: turn.requestId, message_id: answer.id, is_new_turn: false },
    },
    { event: "delta", data: { type: "text", content: answer.content } },
    ...(citations.length > 0 ? [{ event: "citations" as const, data: { items: citations } }] : []),
    {
      event: "done",
      data: {
        usage: known
          ? { input_tokens: Number(answer.inputTokens), output_tokens: Number(answer.outputTokens) }
          : null,
        effective_model: effectiveModel,
        selected_model: selectedModel,
        quota_decision: effectiveModel === selectedModel ? "allow" : "downgrade",
        ...(effectiveModel === selectedModel ? {} : { downgrade_from: selectedModel }),
      },
    },
  ];
};
