import { countRetries, retryCleanups } from "../attachments/cleanup-retry.ts";
import {
  countBacklogAcrossTenants,
  type DebtRow,
  scanDebtAcrossTenants,
} from "../attachments/cleanup-scan-store.ts";
import { type StoreDebtRow, scanStoreDebtAcrossTenants } from "../attachments/cleanup-vector-store.ts";
import { createOutbox, outboxChannel } from "../outbox/outbox.ts";
import type { CleanupAction, CleanupArguments } from "./cleanup-arguments.ts";
import { type Answer, type Operation, operate, standardOutput } from "./operator.ts";
import { type Column, duration, table } from "./table.ts";

/** `mini-chat cleanup …` (attachments.md §14). Resolves with the exit code. */
export const cleanupCommand = (given: CleanupArguments, output = standardOutput): Promise<number> =>
  operate(given, output, (operation) => {
    const { action } = given;
    return action.name === "status" ? status(operation, action) : retry(operation, action);
  });

type Action<Name extends CleanupAction["name"]> = Extract<CleanupAction, { readonly name: Name }>;

const status = async ({ db }: Operation, { filter, limit }: Action<"status">): Promise<Answer> => {
  const backlog = await countBacklogAcrossTenants(db);
  const files = await scanDebtAcrossTenants(db, filter, limit);
  const stores = filter.attachmentId === undefined ? await scanStoreDebtAcrossTenants(db, filter, limit) : [];
  const oldest = duration(backlog.oldestPendingSecs);
  const summary = `${backlog.pending} files pending${oldest === null ? "" : `, untouched for up to ${oldest}`}; ${backlog.failed} given up`;
  return {
    json: {
      files: { pending: backlog.pending, failed: backlog.failed },
      oldest_pending_age_seconds: backlog.oldestPendingSecs,
      failed_files: files.map(fileView),
      failed_vector_stores: stores.map(storeView),
    },
    text: [
      summary,
      ...(files.length > 0 ? [table(fileColumns, files)] : []),
      ...(stores.length > 0 ? [table(storeColumns, stores)] : []),
    ].join("\n\n"),
  };
};

const retry = async (operation: Operation, action: Action<"retry">): Promise<Answer> => {
  const { db, config, logger } = operation;
  const { filter, limit, actor, dryRun } = action;
  if (dryRun) {
    const { files, stores } = await countRetries(db, filter, limit);
    return {
      json: { would_retry: { files, vector_stores: stores } },
      text: told("would retry", files, stores),
    };
  }
  const outbox = createOutbox({ db, config: config.outbox, instanceId: "operator", logger });
  await outbox.register();
  const { files, stores } = await retryCleanups({ db, outbox: outbox.enqueuer, logger }, filter, {
    limit,
    actor,
  });
  await outbox.stop();
  // Whoever misses it finds the work by polling.
  if (config.outbox.notify) {
    await db.query("select pg_notify($1, 'operator')", [outboxChannel]).catch(() => {});
  }
  return { json: { retried: { files, vector_stores: stores } }, text: told("retrying", files, stores) };
};

const told = (done: string, files: number, stores: number): string =>
  `${done} ${files} files and ${stores} vector stores`;

/** Seconds are enough for people. */
const time = (timestamp: string): string => `${timestamp.slice(0, 19)}Z`;

const fileColumns: readonly Column<DebtRow>[] = [
  { head: "FILE OF ATTACHMENT", cell: ({ id }) => id },
  { head: "CHAT", cell: ({ chatId }) => chatId },
  { head: "TENANT", cell: ({ tenantId }) => tenantId },
  { head: "PROVIDER", cell: ({ providerId }) => providerId },
  { head: "GIVEN UP AT", cell: ({ failedAt }) => time(failedAt) },
  { head: "ATTEMPTS", cell: ({ attempts }) => attempts, right: true },
  { head: "ERROR", cell: ({ error }) => error },
];

const storeColumns: readonly Column<StoreDebtRow>[] = [
  { head: "VECTOR STORE OF CHAT", cell: ({ chatId }) => chatId },
  { head: "TENANT", cell: ({ tenantId }) => tenantId },
  { head: "PROVIDER", cell: ({ providerId }) => providerId },
  { head: "CHAT DELETED AT", cell: ({ chatDeletedAt }) => time(chatDeletedAt) },
  { head: "ATTEMPTS", cell: ({ attempts }) => attempts, right: true },
  { head: "ERROR", cell: ({ error }) => error },
];

const fileView = (row: DebtRow): object => ({
  attachment_id: row.id,
  chat_id: row.chatId,
  tenant_id: row.tenantId,
  provider_id: row.providerId,
  attempts: row.attempts,
  error: row.error,
  failed_at: row.failedAt,
});

const storeView = (row: StoreDebtRow): object => ({
  chat_id: row.chatId,
  tenant_id: row.tenantId,
  provider_id: row.providerId,
  attempts: row.attempts,
  error: row.error,
  chat_deleted_at: row.chatDeletedAt,
});
