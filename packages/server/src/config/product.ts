import { z } from "zod";
import { flag, int, secs } from "./fields.ts";

const atMostFourDecimals = (value: number): boolean => Number(value.toFixed(4)) === value;

/** Streams to clients (ops.md §2.3, turns.md §22). */
export const streamingSection = z
  .strictObject({
    sse_channel_capacity: int(32, 16, 64),
    sse_ping_interval_seconds: secs(15, 5, 60),
    max_output_tokens: int(32_768, 1, 10_000_000),
    /** Accepted and validated, without effect: the catalog entry decides. */
    web_search_context_size: z.enum(["low", "medium", "high"]).default("low"),
    slow_client_timeout_secs: secs(60, 5),
    turn_max_duration_secs: secs(900, 60),
    /** 0 = off. */
    max_active_streams: int(0, 0),
  })
  .prefault({});

/** Streams that outlive their client. */
export const resumeSection = z
  .strictObject({
    detached_max_secs: secs(600, 1, 3_600),
    retention_secs: secs(3_600, 60, 86_400),
  })
  .prefault({});

/** Limits that are not the policy's (quota.md §13). */
export const quotaSection = z
  .strictObject({
    overshoot_tolerance_factor: z
      .number()
      .min(1)
      .max(1.5)
      .refine(atMostFourDecimals, "must have at most 4 decimals")
      .default(1.1),
    warning_threshold_pct: int(80, 1, 99),
    web_search_max_calls_per_message: int(2, 1),
    web_search_daily_quota: int(75, 1),
    code_interpreter_max_calls_per_message: int(10, 1),
    code_interpreter_daily_quota: int(50, 1),
    image_inputs_daily_quota: int(50, 1),
    /** null = no limit. */
    image_upload_bytes_daily_quota: z.int().min(1).nullable().default(null),
  })
  .prefault({});

/** Token estimates behind a reserve (quota.md §3). */
export const estimationBudgetsSection = z
  .strictObject({
    bytes_per_token_conservative: int(4, 1),
    fixed_overhead_tokens: int(100, 0),
    safety_margin_pct: int(10, 0),
    image_token_budget: int(1_000, 0),
    tool_surcharge_tokens: int(500, 0),
    web_search_surcharge_tokens: int(500, 0),
    code_interpreter_surcharge_tokens: int(1_000, 0),
    minimal_generation_floor: int(50, 1),
  })
  .prefault({});

// null = the built-in text of the context slice; empty = none.
const guard = () => z.string().max(4_000).nullable().default(null);

/** What goes into a prompt besides the message. A guard of null is the built-in text, `""` is none. */
export const contextSection = z
  .strictObject({
    recent_messages_limit: int(10, 0, 100),
    web_search_guard: guard(),
    file_search_guard: guard(),
    untrusted_content_guard: guard(),
  })
  .prefault({});

/** Attachments and retrieval (attachments.md). */
export const ragSection = z
  .strictObject({
    max_documents_per_chat: int(50, 1),
    max_total_upload_mb_per_chat: int(100, 1),
    uploaded_file_max_size_kb: int(25_600, 1, 1_048_576),
    uploaded_image_max_size_kb: int(5_120, 1, 1_048_576),
    allow_csv_upload: flag(true),
    max_images_per_message: int(4, 1),
    max_concurrent_uploads: int(10, 1, 256),
    max_concurrent_uploads_per_user: int(3, 1),
    index_wait_secs: secs(60, 0, 600),
  })
  .prefault({});

/** Preview images; bytes and pixels. */
export const thumbnailSection = z
  .strictObject({
    width: int(128, 1, 4_096),
    height: int(128, 1, 4_096),
    max_bytes: int(131_072, 1),
    max_pixels: int(100_000_000, 1),
    max_decode_bytes: int(33_554_432, 1),
  })
  .prefault({});

export const docSummarySection = z.strictObject({ enabled: flag(false) }).prefault({});

/** Whether audit events carry message texts. */
export const auditSection = z.strictObject({ include_content: flag(false) }).prefault({});

/** How long rows stay, in days; a `chat_grace_days` of 0 never purges. */
export const retentionSection = z
  .strictObject({
    chat_grace_days: int(30, 0, 3_650),
    quota_days: int(400, 62),
    policy_days: int(400, 400),
  })
  .prefault({});
