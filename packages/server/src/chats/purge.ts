import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { ChatHold } from "../outbox/chat-store.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import {
  type ChatOfTenant,
  deleteChatRow,
  lockDeletedChat,
  type Scanned,
  type ScanPosition,
  scanDeletedAcrossTenants,
  scanStart,
} from "./retention-store.ts";

/** What keeps a deleted chat from being purged (data.md §4), in the order in which one is counted. */
export const blockers = [
  "cleanup_event",
  "dead_letter",
  "running_turn",
  "cleanup_pending",
  "cleanup_failed",
  "vector_store",
] as const;
export type Blocker = (typeof blockers)[number];

/** What slices that know chats, and the outbox, say about the end of one, bound in `app/`. */
export interface PurgeDeps {
  readonly db: Db;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** What the outbox has not finished with; what it has finished with stays finished. */
  readonly findHolds: (
    db: Db,
    chats: readonly ChatOfTenant[],
  ) => Promise<ReadonlyMap<string, readonly ChatHold[]>>;
  readonly hasRunningTurn: (tx: Tx, tenantId: TenantId, chatId: string) => Promise<boolean>;
  /** What of the chat may still exist at a provider. */
  readonly findCleanupDebt: (
    tx: Tx,
    tenantId: TenantId,
    chatId: string,
  ) => Promise<{ readonly pending: boolean; readonly failed: boolean; readonly vectorStore: boolean }>;
}

export interface Purge {
  readonly purged: number;
  /** Chats by the first reason that keeps them. */
  readonly blocked: Readonly<Partial<Record<Blocker, number>>>;
  /** Chats that could not be judged or removed, as the log tells; a later run tries again. */
  readonly failed: number;
}

/** Where the next run goes on. Kept from run to run: those that are blocked do not hold up the rest. */
export interface PurgeProgress {
  after: ScanPosition;
}

export interface PurgeOptions {
  readonly graceDays: number;
  readonly signal: AbortSignal;
  /** Nothing is deleted or counted. */
  readonly dryRun?: boolean;
  /** With it the run is bounded, without it goes over all chats. */
  readonly progress?: PurgeProgress;
  readonly onBatch?: (sofar: Purge) => void;
  readonly onBlocked?: (chat: ChatOfTenant, reason: Blocker) => void;
}

const batchSize = 50;
const maxBatches = 200;

/**
 * One run over the chats deleted longer than `graceDays` ago: each is removed for good in its own
 * transaction, whole or not at all, unless something blocks it. A chat that fails does not stop the run, the
 * signal stops it between chats.
 */
export const purgeChats = async (deps: PurgeDeps, options: PurgeOptions): Promise<Purge> => {
  const { signal, progress } = options;
  const sofar: Counts = { purged: 0, blocked: {}, failed: 0 };
  let after = progress?.after ?? scanStart;
  for (let batches = 0; !signal.aborted; batches += 1) {
    if (progress !== undefined && batches === maxBatches) break;
    const batch = await scanDeletedAcrossTenants(deps.db, options.graceDays, after, batchSize);
    const last = await purgeBatch(deps, batch, options, sofar);
    after = batch.length < batchSize && last === batch.at(-1) ? scanStart : (last ?? after);
    if (progress !== undefined) progress.after = after;
    options.onBatch?.(sofar);
    if (batch.length < batchSize) break;
  }
  return sofar;
};

interface Counts {
  purged: number;
  readonly blocked: Partial<Record<Blocker, number>>;
  failed: number;
}

/** Returns the last chat it looked at. */
const purgeBatch = async (
  deps: PurgeDeps,
  batch: readonly Scanned[],
  { graceDays, signal, dryRun = false, onBlocked }: PurgeOptions,
  sofar: Counts,
): Promise<Scanned | undefined> => {
  if (batch.length === 0) return undefined;
  const holds = await deps.findHolds(deps.db, batch);
  let last: Scanned | undefined;
  for (const chat of batch) {
    if (signal.aborted) break;
    last = chat;
    try {
      const found = holds.get(chat.id) ?? (await purgeOne(deps, chat, graceDays, dryRun));
      if (found === "gone") continue;
      const reason = blockers.find((one) => found.some((held) => held === one));
      if (reason === undefined) sofar.purged += 1;
      else sofar.blocked[reason] = (sofar.blocked[reason] ?? 0) + 1;
      if (reason !== undefined) onBlocked?.(chat, reason);
      if (!dryRun) report(deps, chat, reason);
    } catch (error) {
      sofar.failed += 1;
      deps.logger.error({ err: error, chat_id: chat.id, tenant_id: chat.tenantId }, "chat not purged");
    }
  }
  return last;
};

const report = (
  { metrics, logger }: PurgeDeps,
  { id, tenantId }: ChatOfTenant,
  reason: Blocker | undefined,
): void => {
  if (reason !== undefined) {
    metrics.count("purge_blocked", { reason });
    return;
  }
  metrics.count("purge_deleted");
  logger.info({ chat_id: id, tenant_id: tenantId, processing_stage: "cleanup" }, "chat purged");
};

/** What blocks the chat; nothing: it is purged, or would be. */
const purgeOne = (
  deps: PurgeDeps,
  chat: ChatOfTenant,
  graceDays: number,
  dryRun: boolean,
): Promise<readonly Blocker[] | "gone"> =>
  inTransaction(deps.db, async (tx) => {
    const [locked, found] = await Promise.all([
      lockDeletedChat(tx, chat, graceDays),
      findBlockers(tx, deps, chat),
    ]);
    if (!locked) return "gone";
    if (found.length === 0 && !dryRun) await deleteChatRow(tx, chat);
    return found;
  });

/** What of the chat's own blocks it; holds of the outbox are not among them. */
export const findBlockers = async (
  tx: Tx,
  deps: Pick<PurgeDeps, "hasRunningTurn" | "findCleanupDebt">,
  { id, tenantId }: ChatOfTenant,
): Promise<Blocker[]> => {
  const [running, debt] = await Promise.all([
    deps.hasRunningTurn(tx, tenantId, id),
    deps.findCleanupDebt(tx, tenantId, id),
  ]);
  const found: [boolean, Blocker][] = [
    [running, "running_turn"],
    [debt.pending, "cleanup_pending"],
    [debt.failed, "cleanup_failed"],
    [debt.vectorStore, "vector_store"],
  ];
  return found.flatMap(([is, blocker]) => (is ? [blocker] : []));
};
