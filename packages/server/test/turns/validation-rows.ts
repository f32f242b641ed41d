import { randomUUID } from "node:crypto";
import type { Door } from "./doors.ts";

/** A send and the world it meets; `row` by `row` something is wrong with it. */
export interface Attempt {
  door: Door;
  token: "known" | "reading" | "unknown";
  /** Amy has used up every daily allowance; Ann has not. */
  caller: "ann" | "amy";
  chat: "new" | "used" | "busy" | "foreign";
  mediaType: string;
  path: "chat" | "no-uuid";
  /** What of the model's limits this message would break. */
  model: { short: boolean; blind: boolean; narrow: boolean };
  images: number;
  /** The chat has a file for the code interpreter. */
  sheet: boolean;
  body: Record<string, unknown>;
}

export const sound = (): Attempt => ({
  door: { unlicensed: false, policyAway: false, poor: false, webOff: false, imagesOff: false },
  token: "known",
  caller: "ann",
  chat: "new",
  mediaType: "application/json",
  path: "chat",
  model: { short: false, blind: false, narrow: false },
  images: 0,
  sheet: false,
  body: { content: "hi" },
});

/** Of a completed turn in the chats `used` and `busy`. */
export const completedId = randomUUID();

export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly quota_scope?: string;
}

export const same = (status: number, code: string, more: Partial<Refusal> = {}): Refusal => ({
  status,
  code,
  title: code,
  ...more,
});

export interface Row {
  readonly row: string;
  readonly refusal: Refusal;
  readonly violate: (attempt: Attempt) => void;
}

/** The rows of turns.md §4.2 in their order. */
export const rows: readonly Row[] = [
  {
    row: "1 authentication",
    refusal: { status: 401, code: "unauthorized", title: "Unauthorized" },
    violate: (attempt) => {
      attempt.token = "unknown";
    },
  },
  {
    row: "1 licence",
    refusal: same(403, "feature_not_licensed"),
    violate: ({ door }) => {
      door.unlicensed = true;
    },
  },
  {
    row: "2 media type",
    refusal: { status: 415, code: "invalid_request", title: "Unsupported Media Type" },
    violate: (attempt) => {
      attempt.mediaType = "text/plain";
    },
  },
  {
    row: "2 path id",
    refusal: { status: 400, code: "invalid_request", title: "Bad Request" },
    violate: (attempt) => {
      attempt.path = "no-uuid";
    },
  },
  {
    row: "2 mistyped field",
    refusal: { status: 422, code: "invalid_request", title: "Unprocessable Content" },
    violate: ({ body }) => {
      body["on_disconnect"] = 1;
    },
  },
  {
    row: "3 blank content",
    refusal: { status: 400, code: "invalid_request", title: "Bad Request" },
    violate: ({ body }) => {
      body["content"] = " \t\n";
    },
  },
  {
    row: "4 chat not visible",
    refusal: { status: 404, code: "chat_not_found", title: "Error" },
    violate: (attempt) => {
      attempt.chat = "foreign";
    },
  },
  {
    row: "5 not allowed to send",
    refusal: { status: 403, code: "forbidden", title: "Forbidden" },
    violate: (attempt) => {
      attempt.token = "reading";
    },
  },
  {
    row: "6 request_id with another body",
    refusal: same(422, "idempotency_mismatch"),
    violate: (attempt) => {
      if (attempt.chat === "new") attempt.chat = "used";
      attempt.caller = "amy";
      attempt.body["request_id"] = completedId;
    },
  },
  {
    row: "7 another turn runs",
    refusal: same(409, "generation_in_progress"),
    violate: (attempt) => {
      attempt.chat = "busy";
      attempt.caller = "amy";
    },
  },
  {
    row: "8 too many images",
    refusal: same(400, "too_many_images"),
    violate: (attempt) => {
      attempt.images = 5;
    },
  },
  {
    row: "9 policy",
    refusal: same(503, "service_unavailable"),
    violate: ({ door }) => {
      door.policyAway = true;
    },
  },
  {
    row: "10 web search switched off",
    refusal: same(400, "web_search_disabled"),
    violate: ({ door, body }) => {
      door.webOff = true;
      body["web_search"] = { enabled: true };
    },
  },
  {
    row: "11 credits",
    refusal: same(429, "quota_exceeded", { quota_scope: "tokens" }),
    violate: ({ door }) => {
      door.poor = true;
    },
  },
  {
    row: "12 web searches of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "web_search" }),
    violate: (attempt) => {
      attempt.caller = "amy";
      attempt.body["web_search"] = { enabled: true };
    },
  },
  {
    row: "13 calls of the code interpreter of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "code_interpreter" }),
    violate: (attempt) => {
      attempt.caller = "amy";
      attempt.sheet = true;
    },
  },
  {
    row: "14 images of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "image_inputs" }),
    violate: (attempt) => {
      attempt.caller = "amy";
      attempt.images = 1;
    },
  },
  {
    row: "15 input too long",
    refusal: same(422, "input_too_long"),
    violate: ({ model, body }) => {
      model.short = true;
      body["content"] = "x".repeat(600);
    },
  },
  {
    row: "16 images switched off",
    refusal: same(400, "images_disabled"),
    violate: (attempt) => {
      attempt.door.imagesOff = true;
      attempt.images = 1;
    },
  },
  {
    row: "17 a model that cannot see",
    refusal: same(415, "unsupported_media"),
    violate: (attempt) => {
      attempt.model.blind = true;
      attempt.images = 1;
    },
  },
  {
    row: "18 attachment of nobody",
    refusal: same(400, "invalid_attachment"),
    violate: ({ body }) => {
      body["attachment_ids"] = [randomUUID()];
    },
  },
  {
    row: "19 context budget",
    refusal: same(422, "context_budget_exceeded"),
    violate: ({ model, body }) => {
      model.narrow = true;
      if (body["content"] === "hi") body["content"] = "x".repeat(140);
    },
  },
];

export const attemptOf = (violated: readonly Row[]): Attempt => {
  const attempt = sound();
  // Backwards, so that where two rows want the same field the earlier one has it.
  for (const { violate } of violated.toReversed()) violate(attempt);
  return attempt;
};
