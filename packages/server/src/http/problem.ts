import { AppError, type ErrorCode } from "../errors.ts";

/** RFC 9457 media type of every answer with status ≥ 400. */
export const problemMediaType = "application/problem+json";

/** One refusal as the client sees it (api.md §5.1). */
export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: ErrorCode;
  readonly trace_id?: string;
  readonly errors?: readonly { field: string; message: string; code?: string }[];
  readonly context?: Readonly<Record<string, number>>;
  readonly quota_scope?: string;
}

export interface RenderedProblem {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly problem: Problem;
}

/** Anything thrown as a refusal: an `AppError` is itself, the rest is an opaque 500. */
export const toAppError = (error: unknown): AppError =>
  error instanceof AppError
    ? error
    : new AppError("internal_error", { detail: "An unexpected error occurred.", cause: error });

// api.md §1.3: seconds a client should wait before it tries again.
const retryAfter = (error: AppError): string | undefined => {
  if (error.code === "vector_store_timeout") return "3";
  if (error.status === 503) return "5";
  return error.code === "too_many_requests" ? "1" : undefined;
};

const headersOf = (error: AppError): Record<string, string> => {
  const wait = retryAfter(error);
  return {
    "content-type": problemMediaType,
    ...(wait === undefined ? {} : { "retry-after": wait }),
    ...(error.code === "unauthorized" ? { "www-authenticate": "Bearer" } : {}),
    ...(error.code === "shutting_down" ? { connection: "close" } : {}),
    ...Object.fromEntries(
      Object.entries(error.options.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]),
    ),
  };
};

/** The request path without query, as `instance` wants it; of a target with scheme and host, too. */
export const pathOf = (url: string): string => {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, "");
  const end = path.search(/[?#]/);
  return end === -1 ? path : path.slice(0, end);
};

/** A refusal as `application/problem+json` with the headers that belong to it (api.md §5.1). */
export const renderProblem = (error: AppError, where: { url: string; traceId?: string }): RenderedProblem => {
  const { errors, context, quotaScope } = error.options;
  return {
    status: error.status,
    headers: headersOf(error),
    problem: {
      type: "about:blank",
      title: error.title,
      status: error.status,
      detail: error.message,
      instance: pathOf(where.url),
      code: error.code,
      ...(where.traceId === undefined ? {} : { trace_id: where.traceId }),
      ...(errors === undefined || errors.length === 0 ? {} : { errors }),
      ...(context === undefined ? {} : { context }),
      ...(quotaScope === undefined ? {} : { quota_scope: quotaScope }),
    },
  };
};
