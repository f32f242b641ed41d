import type { AuditEvent, UsageEvent } from "./types.ts";

/**
 * The body is not an event this program can take; `field` says where. `unreadable` it will be for ever;
 * `unknown` is a word of a newer server: keep the event waiting (answer 503) until this program is newer too.
 */
export class EventError extends Error {
  override name = "EventError";
  readonly kind: "unreadable" | "unknown";
  readonly field: string;

  constructor(kind: "unreadable" | "unknown", field: string, what: string) {
    super(`${field}: ${what}`);
    this.kind = kind;
    this.field = field;
  }
}

type Finding = "ok" | "wrong" | "unknown";
type Check = (value: unknown) => Finding;
type Fields = Readonly<Record<string, Check>>;

const that =
  (holds: (value: unknown) => boolean): Check =>
  (value) =>
    holds(value) ? "ok" : "wrong";

const text = that((value) => typeof value === "string");
const flag = that((value) => typeof value === "boolean");
const integer = that(Number.isSafeInteger);
const count = that((value) => Number.isSafeInteger(value) && Number(value) >= 0);
const uuid = that(
  (value) => typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value),
);

const oneOf =
  (...words: readonly string[]): Check =>
  (value) => {
    if (typeof value !== "string") return "wrong";
    return words.includes(value) ? "ok" : "unknown";
  };

const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || value === null ? "ok" : check(value);

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const object =
  (fields: Fields): Check =>
  (value) => {
    if (!isObject(value)) return "wrong";
    const findings = Object.entries(fields).map(([name, check]) => check(Reflect.get(value, name)));
    if (findings.includes("wrong")) return "wrong";
    return findings.includes("unknown") ? "unknown" : "ok";
  };

const listOf =
  (check: Check): Check =>
  (value) => {
    if (!Array.isArray(value)) return "wrong";
    const findings = value.map(check);
    return findings.find((finding) => finding === "wrong") ?? findings.find((one) => one !== "ok") ?? "ok";
  };

const requester = oneOf("user", "system");

const usageFields: Fields = {
  tenant_id: uuid,
  user_id: optional(uuid),
  chat_id: uuid,
  turn_id: optional(uuid),
  request_id: uuid,
  effective_model: text,
  selected_model: text,
  terminal_state: oneOf("completed", "failed", "cancelled"),
  billing_outcome: oneOf("completed", "failed", "aborted", "system_task"),
  usage: optional(
    object({
      input_tokens: count,
      output_tokens: count,
      cache_read_input_tokens: count,
      cache_write_input_tokens: count,
      reasoning_tokens: count,
    }),
  ),
  actual_credits_micro: integer,
  settlement_method: oneOf("actual", "estimated", "released", "none"),
  policy_version_applied: integer,
  web_search_calls: count,
  code_interpreter_calls: count,
  timestamp: text,
  requester_type: optional(requester),
  dedupe_key: optional(text),
  system_task_type: optional(oneOf("thread_summary_update", "doc_summary_generation")),
  overshoot_capped: optional(flag),
  reserved_credits_micro: optional(integer),
  file_search_calls: optional(count),
  error_code: optional(text),
  completion_signal: optional(
    object({ kind: oneOf("incomplete"), reason: oneOf("max_tokens", "content_filter", "other") }),
  ),
};

const usageDefaults = {
  usage: null,
  requester_type: "user",
  overshoot_capped: false,
  reserved_credits_micro: 0,
  file_search_calls: 0,
  error_code: null,
  completion_signal: null,
};

const auditFields: Fields = {
  type: oneOf("turn", "mutation", "delete", "erasure"),
  tenant_id: uuid,
  chat_id: uuid,
  timestamp: text,
  requester_type: requester,
  trace_id: optional(text),
};

const auditFieldsOf: Readonly<Record<string, Fields>> = {
  turn: {
    event_type: oneOf("turn_completed", "turn_failed"),
    user_id: uuid,
    turn_id: uuid,
    request_id: uuid,
    selected_model: text,
    effective_model: text,
    policy_version_applied: optional(count),
    usage: object({ input_tokens: count, output_tokens: count }),
    latency_ms: object({ ttft_ms: optional(count), total_ms: optional(count) }),
    policy_decisions: object({ quota: object({ decision: text }) }),
    error_code: optional(text),
    prompt: optional(text),
    response: optional(text),
    attachments: optional(
      listOf(object({ attachment_id: uuid, attachment_kind: oneOf("document", "image") })),
    ),
    tool_calls: optional(object({ file_search_calls: optional(count), web_search_calls: optional(count) })),
  },
  mutation: {
    event_type: oneOf("turn_retry", "turn_edit"),
    actor_user_id: uuid,
    turn_id: uuid,
    original_request_id: uuid,
    new_request_id: uuid,
  },
  delete: { event_type: oneOf("turn_delete"), actor_user_id: uuid, turn_id: uuid, request_id: uuid },
  erasure: {
    event_type: oneOf("chat_provider_data_erased"),
    user_id: uuid,
    request_id: uuid,
    reason: oneOf("chat_soft_delete", "temporary_chat_expired"),
    chat_deleted_at: text,
    files_deleted: count,
    stores_deleted: count,
  },
};

/**
 * Reads the body of a usage delivery. Fields that were left out have their empty value; unknown ones are
 * kept, as later versions add some. Throws `EventError`.
 */
export const parseUsageEvent = (body: string): UsageEvent =>
  // What was checked above is what the type says.
  ({ ...usageDefaults, ...checked(parsed(body), usageFields) }) as unknown as UsageEvent;

/** Reads the body of an audit delivery. Throws `EventError`. */
export const parseAuditEvent = (body: string): AuditEvent => {
  const event = checked(parsed(body), auditFields);
  return checked(event, auditFieldsOf[String(event["type"])] ?? {}) as unknown as AuditEvent;
};

/**
 * The key of an event, the same on every delivery, made of nothing but the signed body: the header
 * `idempotency-key` tells the same apart but is not signed.
 */
export const eventKey = (event: UsageEvent | AuditEvent): string => {
  if (!("type" in event)) {
    const { dedupe_key: key, tenant_id: tenant, turn_id: turn, request_id: request } = event;
    return key ?? [tenant, turn ?? "", request].map(hex).join("/");
  }
  const request = event.type === "mutation" ? event.new_request_id : event.request_id;
  const subject = event.type === "erasure" ? event.chat_id : event.turn_id;
  return [hex(event.tenant_id), event.event_type, hex(subject), hex(request)].join("/");
};

const hex = (id: string): string => id.replaceAll("-", "");

type Body = Readonly<Record<string, unknown>>;

const parsed = (body: string): Body => {
  let event: unknown;
  try {
    event = JSON.parse(body);
  } catch {
    throw new EventError("unreadable", "body", "is not JSON");
  }
  if (!isObject(event)) throw new EventError("unreadable", "body", "is not an object");
  // Null and absent mean the same.
  return Object.fromEntries(Object.entries(event).filter(([, value]) => value !== null));
};

const checked = (event: Body, fields: Fields): Body => {
  const findings = Object.entries(fields).map(([field, check]) => [field, check(event[field])] as const);
  const [wrong] = findings.find(([, finding]) => finding === "wrong") ?? [];
  if (wrong !== undefined) throw new EventError("unreadable", wrong, "is missing or of another type");
  const [unknown] = findings.find(([, finding]) => finding === "unknown") ?? [];
  if (unknown !== undefined) throw new EventError("unknown", unknown, "has a value of a newer server");
  return event;
};
