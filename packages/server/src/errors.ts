/**
 * The closed catalog of refusals (api.md §5.2). `title: null` means the code itself is the title.
 * Only `http/problem.ts` renders these.
 */
export const errorCatalog = {
  invalid_request: { status: 400, title: "Bad Request" },
  invalid_filter: { status: 400, title: "Invalid Filter" },
  invalid_orderby: { status: 400, title: "Invalid OrderBy" },
  invalid_cursor: { status: 400, title: "Invalid Cursor" },
  invalid_select: { status: 400, title: "Invalid Select" },
  invalid_model: { status: 400, title: "Invalid Model" },
  invalid_reaction_target: { status: 400, title: "Invalid Reaction Target" },
  invalid_attachment: { status: 400, title: null },
  too_many_images: { status: 400, title: null },
  images_disabled: { status: 400, title: null },
  web_search_disabled: { status: 400, title: null },
  invalid_turn_state: { status: 400, title: null },
  document_limit_exceeded: { status: 400, title: null },
  storage_limit_exceeded: { status: 400, title: null },
  unauthorized: { status: 401, title: "Unauthorized" },
  feature_not_licensed: { status: 403, title: null },
  forbidden: { status: 403, title: "Access denied" },
  chat_not_found: { status: 404, title: "Chat Not Found" },
  turn_not_found: { status: 404, title: null },
  message_not_found: { status: 404, title: "Message Not Found" },
  attachment_not_found: { status: 404, title: "Attachment not found" },
  model_not_found: { status: 404, title: null },
  route_not_found: { status: 404, title: "Not Found" },
  method_not_allowed: { status: 405, title: "Method Not Allowed" },
  request_id_conflict: { status: 409, title: null },
  generation_in_progress: { status: 409, title: null },
  not_latest_turn: { status: 409, title: null },
  not_resumable: { status: 409, title: null },
  attachment_locked: { status: 409, title: "Conflict" },
  provider_mismatch: { status: 409, title: "Conflict" },
  file_too_large: { status: 413, title: null },
  body_too_large: { status: 413, title: "Content Too Large" },
  unsupported_file_type: { status: 415, title: null },
  unsupported_media: { status: 415, title: null },
  idempotency_mismatch: { status: 422, title: null },
  input_too_long: { status: 422, title: null },
  context_budget_exceeded: { status: 422, title: null },
  quota_exceeded: { status: 429, title: null },
  too_many_requests: { status: 429, title: "Too Many Requests" },
  internal_error: { status: 500, title: "Internal Error" },
  provider_rejected: { status: 502, title: null },
  provider_unavailable: { status: 502, title: null },
  response_parse_error: { status: 502, title: null },
  configuration_error: { status: 502, title: null },
  vector_store_race: { status: 502, title: null },
  vector_store_timeout: { status: 502, title: null },
  service_unavailable: { status: 503, title: null },
  upload_concurrency_limit: { status: 503, title: "Too Many Uploads" },
  shutting_down: { status: 503, title: null },
  request_timeout: { status: 504, title: "Gateway Timeout" },
} as const satisfies Record<string, { status: number; title: string | null }>;

export type ErrorCode = keyof typeof errorCatalog;

export type QuotaScope = "tokens" | "web_search" | "code_interpreter" | "image_inputs" | "uploads";

/** One invalid field of a request: dotted path and a message for humans. */
export interface FieldError {
  field: string;
  message: string;
  code?: string;
}

export interface AppErrorOptions {
  /** For humans; names only what the caller sent. Default: the title. */
  detail?: string;
  /** Where one code has several statuses or titles (api.md §5.2). */
  status?: number;
  title?: string;
  errors?: readonly FieldError[];
  context?: Readonly<Record<string, number>>;
  quotaScope?: QuotaScope;
  headers?: Readonly<Record<string, string>>;
  cause?: unknown;
}

/** A refusal the client is told about. Anything else thrown becomes an opaque 500. */
export class AppError extends Error {
  override name = "AppError";
  readonly code: ErrorCode;
  readonly status: number;
  readonly title: string;
  readonly options: AppErrorOptions;

  constructor(code: ErrorCode, options: AppErrorOptions = {}) {
    const title = options.title ?? errorCatalog[code].title ?? code;
    super(options.detail ?? title, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? errorCatalog[code].status;
    this.title = title;
    this.options = options;
  }
}

/** New work is refused because this process is about to stop (ops.md §9). */
export const shuttingDown = (): AppError =>
  new AppError("shutting_down", {
    detail: "This server is about to stop.",
    headers: { "retry-after": "5" },
  });
