import { z } from "zod";
import { citationSchema } from "../context/citation-schema.ts";
import { eventStream } from "../http/openapi.ts";
import { int64, timestampOut, uuidOut } from "../http/validate.ts";

/** Why a message is not answered, whether it is new or takes another one's place (turns.md §4.2 rows 8–19). */
export const answerRefusals = [
  "generation_in_progress",
  "too_many_images",
  "web_search_disabled",
  "quota_exceeded",
  "input_too_long",
  "images_disabled",
  "unsupported_media",
  "invalid_attachment",
  "context_budget_exceeded",
] as const;

/** The payloads of stream events as components of the OpenAPI document (turns.md §5.2). */

const streamStarted = z
  .object({
    request_id: uuidOut(),
    message_id: uuidOut(),
    is_new_turn: z.boolean(),
    thread_summary_applied: z.object({ token_estimate: z.int() }).optional(),
  })
  .meta({ id: "StreamStartedEvent" });

const ping = z.object({}).meta({ id: "PingEvent" });

const delta = z
  .object({ type: z.enum(["text", "reasoning"]), content: z.string() })
  .meta({ id: "DeltaEvent" });

const tool = z
  .object({
    phase: z.enum(["start", "done"]),
    name: z.enum(["file_search", "web_search", "code_interpreter", "file_load"]),
    details: z.record(z.string(), z.unknown()),
  })
  .meta({ id: "ToolEvent" });

const citations = z.object({ items: z.array(citationSchema) }).meta({ id: "CitationsEvent" });

const quotaWarning = z.object({
  tier: z.enum(["premium", "total"]),
  period: z.enum(["daily", "monthly"]),
  remaining_percentage: z.int(),
  warning: z.boolean(),
  exhausted: z.boolean(),
  next_reset: timestampOut().optional(),
});

const done = z
  .object({
    usage: z.object({ input_tokens: int64(), output_tokens: int64() }).nullable(),
    effective_model: z.string(),
    selected_model: z.string(),
    quota_decision: z.enum(["allow", "downgrade"]),
    downgrade_from: z.string().optional(),
    downgrade_reason: z
      .enum(["premium_quota_exhausted", "force_standard_tier", "disable_premium_tier", "model_disabled"])
      .optional(),
    quota_warnings: z.array(quotaWarning).optional(),
  })
  .meta({ id: "DoneEvent" });

const error = z.object({ code: z.string(), message: z.string() }).meta({ id: "ErrorEvent" });

/** The 200 of an operation that answers with the events of a turn. */
export const turnStream = eventStream("stream_started ping* (delta | tool)* citations? (done | error)", [
  streamStarted,
  ping,
  delta,
  tool,
  citations,
  done,
  error,
]);
