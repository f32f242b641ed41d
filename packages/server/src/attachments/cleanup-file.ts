import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { type ProviderStorage, StorageError, type StorageRegistry } from "../providers/storage-contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { CleanupRun } from "./cleanup-run.ts";
import {
  type CleanupOutcome,
  type FileKey,
  markCleanupDone,
  type PendingFile,
  recordCleanupAttempt,
} from "./cleanup-store.ts";

export interface CleanupDeps {
  readonly db: Db;
  readonly storage: Pick<StorageRegistry, "byProviderId">;
  /** `cleanup_worker.max_attempts`. */
  readonly maxAttempts: number;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Whom the calls are made for: a system identity of the tenant (outbox.md §10). */
export interface CleanupTask {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly correlationId: string;
}

/**
 * What became of one file. `Deferred`: no attempt was made, or it was taken back. `Refused`: none can be
 * made while the breaker of the provider is open.
 */
export type FileOutcome = "Done" | CleanupOutcome | "Deferred" | "Refused";

/**
 * Deletes one file at its provider, out of its store first, and writes down what became of it. Deleting
 * again what is gone succeeds, so a crash anywhere costs a repetition. Throws what the database throws.
 */
export const cleanUpFile = async (
  deps: CleanupDeps,
  task: CleanupTask,
  file: PendingFile,
  run: CleanupRun,
): Promise<FileOutcome> => {
  const key: FileKey = { ...task, id: file.id };
  if (file.providerFileId !== null) {
    const failure = await attempt(deps, file.providerId, run, async (storage, signal) => {
      const context = { tenantId: task.tenantId, correlationId: task.correlationId, signal };
      const { vectorStoreId: store, providerFileId: id } = file;
      if (id === null) return;
      const refusal = store === null ? null : await refusalOf(storage.stores.removeFile(context, store, id));
      await storage.files.delete(context, id);
      if (refusal !== null) throw refusal;
    });
    if (failure === "deferred") return "Deferred";
    if (failure === "refused") return "Refused";
    if (failure !== null) return recordFailure(deps, key, failure);
  }
  const latencyMs = await markCleanupDone(deps.db, key, file.providerFileId);
  if (latencyMs === null) return "AlreadyTerminal";
  deps.metrics.observe("cleanup_latency_ms", { op: "file" }, latencyMs);
  if (file.providerFileId !== null) deps.metrics.count("cleanup_completed", { resource_type: "file" });
  return "Done";
};

/** A refusal for good: no other attempt will change it, so it must not keep the bytes where they are. */
const refusalOf = async (removal: Promise<void>): Promise<StorageError | null> => {
  try {
    await removal;
    return null;
  } catch (error) {
    if (error instanceof StorageError && !error.retryable) return error;
    throw error;
  }
};

const recordFailure = async (
  { db, metrics, logger, maxAttempts }: CleanupDeps,
  key: FileKey,
  failure: CleanupFailure,
): Promise<CleanupOutcome> => {
  const outcome = await recordCleanupAttempt(db, key, failure.text, failure.terminal ? 1 : maxAttempts);
  const facts = { attachment_id: key.id, chat_id: key.chatId, tenant_id: key.tenantId, error: failure.text };
  if (outcome === "StillPending") {
    metrics.count("cleanup_retry", { resource_type: "file", reason: failure.reason });
    logger.warn({ ...facts, processing_stage: "cleanup" }, "provider file not deleted");
  } else if (outcome === "TerminalFailure") {
    metrics.count("cleanup_failed", { resource_type: "file" });
    logger.error({ ...facts, processing_stage: "cleanup" }, "provider file given up");
  }
  return outcome;
};

/** Why an attempt failed, fit to be stored, and whether another one is of no use (outbox.md §10). */
export interface CleanupFailure {
  readonly text: string;
  readonly terminal: boolean;
  readonly reason:
    | "rate_limited"
    | "provider_4xx"
    | "provider_5xx"
    | "timeout"
    | "transport"
    | "configuration";
}

/** How soon a provider is asked again whose breaker was open: it stays so for `breaker.open_secs`. */
export const refusedMs = 5_000;

/** Makes provider calls in time; null when all succeeded, `deferred` or `refused` when this counts as no attempt. */
export const attempt = async (
  { storage: registry }: Pick<CleanupDeps, "storage">,
  providerId: string,
  run: CleanupRun,
  calls: (storage: ProviderStorage, signal: AbortSignal) => Promise<void>,
): Promise<CleanupFailure | "deferred" | "refused" | null> => {
  const storage = registry.byProviderId(providerId);
  if (storage === null) {
    return { text: "the provider is not configured", terminal: false, reason: "configuration" };
  }
  try {
    await run.timed((signal) => calls(storage, signal));
    return null;
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    // A shutdown, a lost lease or our own cap: the provider was not at fault.
    if (run.signal.aborted || error.reason === "limited") return "deferred";
    if (error.reason === "refused") return "refused";
    return failureOf(error);
  }
};

const failureOf = ({ code, httpStatus, detail, retryable, reason }: StorageError): CleanupFailure => ({
  text: reason === "aborted" ? "timed out" : `${code}: ${detail}`,
  terminal: !retryable,
  reason: labelOf(reason, httpStatus),
});

const labelOf = (
  reason: StorageError["reason"],
  httpStatus: number | undefined,
): CleanupFailure["reason"] => {
  if (httpStatus !== undefined) {
    if (httpStatus === 429) return "rate_limited";
    return httpStatus >= 400 && httpStatus < 500 ? "provider_4xx" : "provider_5xx";
  }
  switch (reason) {
    case "timeout":
    case "aborted":
      return "timeout";
    case "configuration":
      return "configuration";
    case "unreadable":
      return "provider_5xx";
    default:
      return "transport";
  }
};
