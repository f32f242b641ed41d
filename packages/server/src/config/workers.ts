import { z } from "zod";
import { flag, int, millis, secs } from "./fields.ts";

const powerOfTwo = (value: number): boolean => Number.isInteger(Math.log2(value));

// outbox.md §3: 1–1024 characters, the first and the last alphanumeric.
const queueName = (fallback: string) =>
  z
    .string()
    .max(1_024)
    .regex(
      /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/,
      "must be letters, digits, '.', '_' or '-', first and last a letter or digit",
    )
    .default(fallback);

/** The transactional outbox (ops.md §2.4, outbox.md §3). */
export const outboxSection = z
  .strictObject({
    num_partitions: z.int().min(1).max(64).refine(powerOfTwo, "must be a power of two").default(16),
    queue_name: queueName("mini-chat.usage_snapshot"),
    cleanup_queue_name: queueName("mini-chat.attachment_cleanup"),
    chat_cleanup_queue_name: queueName("mini-chat.chat_cleanup"),
    thread_summary_queue_name: queueName("mini-chat.thread_summary"),
    audit_queue_name: queueName("mini-chat.audit"),
    doc_summary_queue_name: queueName("mini-chat.doc_summary"),
    poll_interval_ms: millis(1_000, 50, 60_000),
    processors: int(4, 1, 64),
    batch_size: int(100, 1, 1_000),
    claim_partitions: int(16, 1, 64),
    retry_base_ms: millis(1_000, 1),
    retry_max_ms: millis(60_000, 1),
    notify: flag(true),
    dead_letter_retention_days: int(30, 1, 3_650),
  })
  .prefault({});

/** Ends turns whose process is gone (turns.md §12). */
export const orphanWatchdogSection = z
  .strictObject({
    enabled: flag(true),
    scan_interval_secs: secs(60, 1),
    timeout_secs: secs(300, 90, 3_600),
  })
  .prefault({});

/** Thread summaries (context.md). */
export const threadSummaryWorkerSection = z
  .strictObject({
    enabled: flag(true),
    compression_threshold_pct: int(80, 1, 99),
    max_attempts: int(3, 1),
    claim_timeout_secs: secs(300, 60, 3_600),
    summary_model_id: z.string().default(""),
    /** null = the built-in prompt. */
    summary_system_prompt: z.string().nullable().default(null),
    /** Characters per message; 0 = no cut. */
    message_content_limit: int(4_000, 0),
    keep_recent_messages: int(4, 0, 100),
  })
  .prefault({});

/** Removal of provider files and vector stores (outbox.md §10). */
export const cleanupWorkerSection = z
  .strictObject({
    enabled: flag(true),
    max_attempts: int(5, 1),
    reconcile_interval_secs: secs(300, 1),
    stale_in_progress_timeout_secs: secs(900, 1),
    batch_size: int(32, 1),
  })
  .prefault({});

/** Search for provider objects nobody owns. */
export const reconcileSection = z
  .strictObject({ enabled: flag(false), grace_secs: secs(3_600, 600), dry_run: flag(false) })
  .prefault({});
