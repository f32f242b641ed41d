import { z } from "zod";
import type { DocSummaryTaskPayload, ThreadSummaryTaskPayload } from "./events.ts";
import { orNull, readPayload, wireTimestamp, wireUuid } from "./wire.ts";

const threadSummary = z
  .object({
    tenant_id: wireUuid,
    chat_id: wireUuid,
    system_request_id: wireUuid,
    system_task_type: z.literal("thread_summary_update"),
    base_frontier_created_at: orNull(wireTimestamp),
    base_frontier_message_id: orNull(wireUuid),
    frozen_target_created_at: wireTimestamp,
    frozen_target_message_id: wireUuid,
  })
  .refine(
    (task) => (task.base_frontier_created_at === null) === (task.base_frontier_message_id === null),
    "only one base frontier field",
  );

const docSummary = z.object({
  tenant_id: wireUuid,
  chat_id: wireUuid,
  attachment_id: wireUuid,
  system_request_id: wireUuid,
  system_task_type: z.literal("doc_summary_generation"),
});

/** Reads a thread-summary payload (outbox.md §4.6), microseconds kept; throws as `readPayload`. */
export const readThreadSummaryTask = (payload: string): ThreadSummaryTaskPayload =>
  readPayload(threadSummary, payload);

/** Reads a document-summary payload (outbox.md §4.7); throws as `readPayload`. */
export const readDocSummaryTask = (payload: string): DocSummaryTaskPayload =>
  readPayload(docSummary, payload);
