import { asTenantId, type TenantId } from "../auth/actor.ts";
import { findChatState } from "../chats/erasure-store.ts";
import { backoffMs } from "../lib/backoff.ts";
import { readChatCleanup } from "../outbox/cleanup-event.ts";
import type { ChatCleanupEvent } from "../outbox/events.ts";
import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";
import { attempt, type CleanupFailure, type CleanupTask, cleanUpFile, refusedMs } from "./cleanup-file.ts";
import { type EraseDeps, finishCleanup } from "./cleanup-receipt.ts";
import { type CleanupRun, cleanupHandler } from "./cleanup-run.ts";
import { type ChatFiles, countChatFiles, findPendingFiles } from "./cleanup-store.ts";
import { findStoreToDelete, recordStoreAttempt, type StoreToDelete } from "./cleanup-vector-store.ts";

/** Chats of one partition side by side, and files of one chat: fifty are gone in well under 5 s. */
const concurrency = { chats: 4, files: 8 } as const;

/** More files than this of one chat are left to the next run. */
const maxFiles = 1_000;

/** How soon a chat is looked at again that waits for nobody but us. */
const againMs = 5_000;

/** How soon a place under our own caps, or the time for more files, is looked for again. */
const deferredMs = 1_000;

/**
 * The handler of the chat-cleanup queue (outbox.md §10): the files of a deleted chat, then its vector
 * store, which is never deleted while a file is pending; then the receipt. What is done is written down
 * file by file, so each delivery goes on where the one before stopped.
 */
export const chatCleanupHandler = (deps: EraseDeps): QueueHandler =>
  cleanupHandler((message, run) => handle(deps, message, run), concurrency.chats);

const handle = async (deps: EraseDeps, message: Message, run: CleanupRun): Promise<Verdict | undefined> => {
  const event = read(message);
  if ("kind" in event) return event;
  const task: CleanupTask = {
    tenantId: asTenantId(event.tenant_id),
    chatId: event.chat_id,
    correlationId: event.system_request_id,
  };
  const state = await findChatState(deps.db, task.tenantId, task.chatId);
  if (state === "live") return { kind: "reject", reason: "chat is not soft-deleted" };
  if (state === "gone") return done;
  const ends = await cleanUpFiles(deps, task, run);
  const files = await readFiles(deps, task);
  if (files.pending > 0) return stillPending(deps, files, ends, run);
  const store = await findStoreToDelete(deps.db, task.tenantId, task.chatId);
  if (store !== null) {
    const verdict = await deleteStore(deps, task, store, files, run);
    if (verdict !== null) return verdict;
  }
  const finished = await finishCleanup(deps, event, store);
  return finished === "erased" || finished === "debt" ? done : again(finished);
};

const read = (message: Message): ChatCleanupEvent | Verdict => {
  try {
    return readChatCleanup(message.payload);
  } catch (error) {
    return unreadableVerdict(error, message);
  }
};

const readFiles = ({ db, staleSecs }: EraseDeps, { tenantId, chatId }: CleanupTask): Promise<ChatFiles> =>
  countChatFiles(db, tenantId, chatId, staleSecs);

/** Whether any file ended so. */
interface FileEnds {
  failed: boolean;
  refused: boolean;
}

/** Tries every pending file once. */
const cleanUpFiles = async (deps: EraseDeps, task: CleanupTask, run: CleanupRun): Promise<FileEnds> => {
  const files = await findPendingFiles(deps.db, task.tenantId, task.chatId, maxFiles);
  const ends: FileEnds = { failed: false, refused: false };
  const worker = async (): Promise<void> => {
    for (let file = files.shift(); file !== undefined && !run.isOver(); file = files.shift()) {
      const outcome = await cleanUpFile(deps, task, file, run);
      ends.failed ||= outcome === "StillPending";
      ends.refused ||= outcome === "Refused";
      if (outcome === "Deferred" || outcome === "Refused") {
        // No place for so many at once, under our caps or while the breaker probes: those who have one go on.
        files.push(file);
        return;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency.files, files.length) }, worker));
  return ends;
};

// Attempts are counted on the rows: those of many files must not make a dead letter of what is pending.
const stillPending = (
  { retryDelay }: EraseDeps,
  { pending, attempts }: ChatFiles,
  { failed, refused }: FileEnds,
  run: CleanupRun,
): Verdict | undefined => {
  if (run.signal.aborted) return undefined;
  const failedMs = failed ? backoffMs(Math.max(0, attempts - 1), retryDelay) : deferredMs;
  return again(`${pending} files are still pending`, refused ? refusedMs : failedMs);
};

const again = (error: string, afterMs = againMs): Verdict => ({
  kind: "retry",
  error,
  afterMs,
  counted: false,
});

/** Null when the store is gone. */
const deleteStore = async (
  deps: EraseDeps,
  task: CleanupTask,
  { providerId, vectorStoreId }: StoreToDelete,
  files: ChatFiles,
  run: CleanupRun,
): Promise<Verdict | undefined | null> => {
  if (files.failed > 0) {
    deps.metrics.count("cleanup_vector_store_with_failed_attachments");
    deps.logger.warn(
      { ...idsOf(task), failed_files: files.failed, processing_stage: "cleanup" },
      "vector store of a chat with given up files is deleted",
    );
  }
  if (vectorStoreId === null) return null;
  if (run.isOver()) return run.signal.aborted ? undefined : again("no time left for the vector store");
  const failure = await attempt(deps, providerId, run, (storage, signal) =>
    storage.stores.delete({ ...task, signal }, vectorStoreId),
  );
  if (failure === null) return null;
  if (failure === "deferred") return run.signal.aborted ? undefined : again("no attempt was made");
  if (failure === "refused") return again("the provider is unavailable", refusedMs);
  return storeFailed(deps, task, failure);
};

// Counted on the row, as attempts on files are.
const storeFailed = async (deps: EraseDeps, task: CleanupTask, failure: CleanupFailure): Promise<Verdict> => {
  const { db, metrics, logger, maxAttempts, retryDelay } = deps;
  const attempts = await recordStoreAttempt(db, task.tenantId, task.chatId, failure.text);
  const facts = { ...idsOf(task), attempts, error: failure.text, processing_stage: "cleanup" };
  if (failure.terminal || attempts >= maxAttempts) {
    metrics.count("cleanup_failed", { resource_type: "vector_store" });
    logger.error(facts, "vector store given up");
    return { kind: "reject", reason: `vector store: max attempts (${maxAttempts}) reached` };
  }
  metrics.count("cleanup_retry", { resource_type: "vector_store", reason: failure.reason });
  logger.warn(facts, "vector store not deleted");
  return again("the vector store was not deleted", backoffMs(Math.max(0, attempts - 1), retryDelay));
};

const idsOf = ({ tenantId, chatId, correlationId }: CleanupTask): Record<string, TenantId | string> => ({
  tenant_id: tenantId,
  chat_id: chatId,
  request_id: correlationId,
  requester_type: "system",
});
