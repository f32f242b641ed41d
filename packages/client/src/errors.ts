import type { Operations, Problem } from "./generated/api.ts";

export type ErrorCode = Problem["code"];

/** The codes one operation may refuse with, by its operationId. */
export type CodeOf<Name extends keyof Operations> = Operations[Name]["code"];

/** A refusal of the server: a problem with a code of the catalog (api.md §5.2). Branch on `code`. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ErrorCode;
  readonly status: number;
  readonly problem: Problem;
  /** Seconds the server asks to wait (429, 503). The client never waits by itself before a send. */
  readonly retryAfterSecs: number | undefined;
  /** Of a conflict with a running turn: its Turn Status (api.md §7). */
  readonly location: string | undefined;

  constructor(problem: Problem, answer: Response) {
    super(`${problem.code}: ${problem.detail}`);
    this.code = problem.code;
    this.status = answer.status;
    this.problem = problem;
    this.retryAfterSecs = retryAfter(answer);
    this.location = answer.headers.get("location") ?? undefined;
  }
}

/** No answer, or none of mini-chat's: a lost connection, silence, a page of some proxy. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly code: "connection_failed" | "unexpected_answer";
  /** Of the unexpected answer. */
  readonly status: number | undefined;
  readonly retryAfterSecs: number | undefined;

  constructor(message: string, options: { cause?: unknown; answer?: Response } = {}) {
    super(message, { cause: options.cause });
    this.code = options.answer === undefined ? "connection_failed" : "unexpected_answer";
    this.status = options.answer?.status;
    this.retryAfterSecs = options.answer === undefined ? undefined : retryAfter(options.answer);
  }
}

export type ClientError = ApiError | ConnectionError;

export const isClientError = (error: unknown): error is ClientError =>
  error instanceof ApiError || error instanceof ConnectionError;

/** Whether it is a refusal with this code. */
export const hasCode = (error: unknown, code: ErrorCode): error is ApiError =>
  error instanceof ApiError && error.code === code;

/** Whether a send was refused because the chat's answer, or the answer to this very message, is on its way. */
export const isInProgress = (error: unknown): error is ApiError =>
  hasCode(error, "generation_in_progress") ||
  (hasCode(error, "request_id_conflict") && error.location !== undefined);

const retryAfter = ({ headers }: Response): number | undefined => {
  const value = headers.get("retry-after");
  return value !== null && /^\d+$/.test(value) ? Number(value) : undefined;
};

/** The error for an answer of status 400 or more. */
export const errorOf = async (answer: Response): Promise<ClientError> => {
  const isProblem = (answer.headers.get("content-type") ?? "").includes("problem+json");
  const text = await answer.text().catch(() => "");
  if (isProblem) {
    try {
      const problem = JSON.parse(text) as Problem;
      if (typeof problem.code === "string") return new ApiError(problem, answer);
    } catch {
      // Cut off on the way: as good as any other page.
    }
  }
  return new ConnectionError(`answered with status ${answer.status}`, { answer });
};
