import { asTenantId } from "../auth/actor.ts";
import { findChatState } from "../chats/erasure-store.ts";
import { readAttachmentCleanup } from "../outbox/cleanup-event.ts";
import type { AttachmentCleanupEvent } from "../outbox/events.ts";
import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";
import { type CleanupDeps, cleanUpFile, type FileOutcome, refusedMs } from "./cleanup-file.ts";
import { type CleanupRun, cleanupHandler } from "./cleanup-run.ts";
import { findPendingFile } from "./cleanup-store.ts";

const concurrency = 4;

/**
 * The handler of the attachment-cleanup queue (outbox.md §10): deletes one provider file. Idempotent by
 * the row's `cleanup_status`; once the chat is deleted, its own cleanup has the file.
 */
export const attachmentCleanupHandler = (deps: CleanupDeps): QueueHandler =>
  cleanupHandler((message, run) => handle(deps, message, run), concurrency);

const handle = async (deps: CleanupDeps, message: Message, run: CleanupRun): Promise<Verdict | undefined> => {
  const event = read(message);
  if ("kind" in event) return event;
  const tenantId = asTenantId(event.tenant_id);
  const { chat_id: chatId, attachment_id: id } = event;
  if ((await countedRead(deps, () => findChatState(deps.db, tenantId, chatId))) !== "live") return done;
  const row = await countedRead(deps, () => findPendingFile(deps.db, { tenantId, chatId, id }));
  if (row === null) return { kind: "already_terminal" };
  // The store as it was when the file was deleted: its row may be another one's by now.
  const file = { ...row, vectorStoreId: event.vector_store_id ?? row.vectorStoreId };
  const task = { tenantId, chatId, correlationId: message.messageId };
  return verdictOf(await cleanUpFile(deps, task, file, run), deps.maxAttempts);
};

const read = (message: Message): AttachmentCleanupEvent | Verdict => {
  try {
    return readAttachmentCleanup(message.payload);
  } catch (error) {
    return unreadableVerdict(error, message);
  }
};

/** A read whose failure is counted as one of the database. */
const countedRead = async <T>({ metrics }: CleanupDeps, query: () => Promise<T>): Promise<T> => {
  try {
    return await query();
  } catch (error) {
    metrics.count("cleanup_retry", { resource_type: "file", reason: "db" });
    throw error;
  }
};

/** How soon a place under our own caps is looked for again. */
const deferredMs = 1_000;

const verdictOf = (outcome: FileOutcome, maxAttempts: number): Verdict => {
  switch (outcome) {
    case "Done":
      return done;
    case "AlreadyTerminal":
      return { kind: "already_terminal" };
    case "StillPending":
      return { kind: "retry", error: "the provider file was not deleted" };
    case "TerminalFailure":
      return { kind: "reject", reason: `max attempts (${maxAttempts}) reached` };
    case "Deferred":
      return { kind: "retry", error: "no attempt was made", afterMs: deferredMs, counted: false };
    case "Refused":
      return { kind: "retry", error: "the provider is unavailable", afterMs: refusedMs, counted: false };
  }
};
