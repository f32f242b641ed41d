import { z } from "zod";
import type { AuditEnvelope } from "../outbox/events.ts";
import { orAbsent, readPayload, wireTimestamp, wireUint, wireUuid } from "../outbox/wire.ts";

const common = {
  timestamp: wireTimestamp,
  tenant_id: wireUuid,
  requester_type: z.enum(["user", "system"]),
  trace_id: orAbsent(z.string()),
};

const attachment = z.object({
  attachment_id: wireUuid,
  attachment_kind: z.enum(["document", "image"]),
  filename: orAbsent(z.string()),
  content_type: orAbsent(z.string()),
  size_bytes: orAbsent(wireUint),
  image_used_in_turn: orAbsent(z.boolean()),
  doc_summary: orAbsent(z.string()),
});

const turn = z.object({
  type: z.literal("turn"),
  event_type: z.enum(["turn_completed", "turn_failed"]),
  ...common,
  user_id: wireUuid,
  chat_id: wireUuid,
  turn_id: wireUuid,
  request_id: wireUuid,
  selected_model: z.string(),
  effective_model: z.string(),
  policy_version_applied: orAbsent(wireUint),
  usage: z.object({
    input_tokens: wireUint,
    output_tokens: wireUint,
    model: orAbsent(z.string()),
    cache_read_input_tokens: orAbsent(wireUint),
    cache_write_input_tokens: orAbsent(wireUint),
    reasoning_tokens: orAbsent(wireUint),
  }),
  latency_ms: z.object({ ttft_ms: orAbsent(wireUint), total_ms: orAbsent(wireUint) }),
  policy_decisions: z.object({
    license: orAbsent(z.object({ feature: z.string(), decision: z.string() })),
    quota: z.object({
      decision: z.string(),
      quota_scope: orAbsent(z.enum(["tokens", "web_search"])),
      downgrade_from: orAbsent(z.string()),
      downgrade_reason: orAbsent(z.string()),
    }),
  }),
  error_code: orAbsent(z.string()),
  prompt: orAbsent(z.string()),
  response: orAbsent(z.string()),
  attachments: orAbsent(z.array(attachment)),
  tool_calls: orAbsent(
    z.object({ file_search_calls: orAbsent(wireUint), web_search_calls: orAbsent(wireUint) }),
  ),
});

const mutation = z.object({
  type: z.literal("mutation"),
  event_type: z.enum(["turn_retry", "turn_edit"]),
  ...common,
  actor_user_id: wireUuid,
  chat_id: wireUuid,
  turn_id: wireUuid,
  original_request_id: wireUuid,
  new_request_id: wireUuid,
});

const deletion = z.object({
  type: z.literal("delete"),
  event_type: z.literal("turn_delete"),
  ...common,
  actor_user_id: wireUuid,
  chat_id: wireUuid,
  turn_id: wireUuid,
  request_id: wireUuid,
});

const erasure = z.object({
  type: z.literal("erasure"),
  event_type: z.literal("chat_provider_data_erased"),
  ...common,
  user_id: wireUuid,
  chat_id: wireUuid,
  request_id: wireUuid,
  reason: z.enum(["chat_soft_delete", "temporary_chat_expired"]),
  chat_deleted_at: wireTimestamp,
  files_deleted: wireUint,
  stores_deleted: wireUint,
});

const envelope = z.discriminatedUnion("type", [turn, mutation, deletion, erasure]);

/** Reads an audit payload; unknown keys are ignored, an absent key passes for null. Throws as `readPayload`. */
export const readAuditEvent = (payload: string): AuditEnvelope => readPayload(envelope, payload);
