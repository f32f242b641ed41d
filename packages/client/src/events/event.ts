/** Tokens as the provider reported them; the cached ones are part of the input, reasoning of the output. */
export interface UsageTokens {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_input_tokens: number;
  readonly cache_write_input_tokens: number;
  readonly reasoning_tokens: number;
}

/**
 * What one turn or one system task cost. `actual_credits_micro` is the authoritative debit, in millionths
 * of a credit: add it up, never compute it again from the tokens.
 */
export interface UsageEvent {
  readonly tenant_id: string;
  /** Absent for system tasks. */
  readonly user_id?: string;
  readonly chat_id: string;
  /** Absent for system tasks. */
  readonly turn_id?: string;
  readonly request_id: string;
  /** The model that answered; differs from `selected_model` after a downgrade. */
  readonly effective_model: string;
  readonly selected_model: string;
  readonly terminal_state: "completed" | "failed" | "cancelled";
  readonly billing_outcome: "completed" | "failed" | "aborted" | "system_task";
  readonly settlement_method: "actual" | "estimated" | "released" | "none";
  /** Null when the provider reported none. */
  readonly usage: UsageTokens | null;
  readonly actual_credits_micro: number;
  readonly policy_version_applied: number;
  readonly web_search_calls: number;
  readonly code_interpreter_calls: number;
  readonly timestamp: string;
  readonly requester_type?: "user" | "system";
  readonly dedupe_key?: string;
  readonly system_task_type?: string;
  readonly error_code?: string | null;
}

/** What happened to a turn, for the record. */
export interface AuditEvent {
  readonly type: "turn" | "mutation" | "delete";
  readonly event_type: string;
  readonly tenant_id: string;
  readonly chat_id: string;
  readonly turn_id: string;
  readonly timestamp: string;
  readonly requester_type: "user" | "system";
  readonly trace_id?: string;
  readonly [field: string]: unknown;
}

/** The body is not the event it should be; `field` says where. */
export class EventError extends Error {
  override name = "EventError";
  readonly field: string;

  constructor(field: string, expected: string) {
    super(`${field}: ${expected}`);
    this.field = field;
  }
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const uuid: Check = (value) =>
  typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
const integer: Check = (value) => Number.isSafeInteger(value);
const count: Check = (value) => integer(value) && Number(value) >= 0;
const optional =
  (check: Check): Check =>
  (value) =>
    value === undefined || value === null || check(value);
const tokens: Check = (value) =>
  typeof value === "object" &&
  value !== null &&
  [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_write_input_tokens",
    "reasoning_tokens",
  ].every((name) => count(Reflect.get(value, name)));

const usageFields: Readonly<Record<string, Check>> = {
  tenant_id: uuid,
  user_id: optional(uuid),
  chat_id: uuid,
  turn_id: optional(uuid),
  request_id: uuid,
  effective_model: text,
  selected_model: text,
  terminal_state: text,
  billing_outcome: text,
  settlement_method: text,
  usage: optional(tokens),
  actual_credits_micro: integer,
  policy_version_applied: integer,
  web_search_calls: count,
  code_interpreter_calls: count,
  timestamp: text,
};

const auditFields: Readonly<Record<string, Check>> = {
  type: text,
  event_type: text,
  tenant_id: uuid,
  chat_id: uuid,
  turn_id: uuid,
  timestamp: text,
  requester_type: text,
};

/** Reads the body of a usage delivery. Unknown fields are kept: later versions add some. Throws `EventError`. */
export const parseUsageEvent = (body: string): UsageEvent => {
  const event = checked(body, usageFields);
  return { ...event, usage: event["usage"] ?? null } as unknown as UsageEvent;
};

/** Reads the body of an audit delivery. Throws `EventError`. */
export const parseAuditEvent = (body: string): AuditEvent =>
  checked(body, auditFields) as unknown as AuditEvent;

const checked = (body: string, fields: Readonly<Record<string, Check>>): Record<string, unknown> => {
  let event: unknown;
  try {
    event = JSON.parse(body);
  } catch {
    throw new EventError("body", "is not JSON");
  }
  if (typeof event !== "object" || event === null || Array.isArray(event)) {
    throw new EventError("body", "is not an object");
  }
  for (const [field, check] of Object.entries(fields)) {
    if (!check(Reflect.get(event, field))) throw new EventError(field, "is missing or of another type");
  }
  return { ...event };
};
