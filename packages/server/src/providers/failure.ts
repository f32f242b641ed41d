import {
  ProviderError,
  type ProviderErrorCode,
  type ProviderOutcome,
  type ProviderUsage,
} from "./contract.ts";
import { type Confidential, internalDetail, nothingConfidential, sanitizeMessage } from "./sanitize.ts";

/**
 * Why a call brought no usable answer, before it is put into words (providers.md §7.1):
 * `status` the provider answered with an HTTP error; `reported` it reported the failure in the body;
 * `broken` what it sent cannot be read, or ended early; `lost` the connection broke after the request;
 * `unavailable` there was no connection to send it on; `limited` by our own caps and `refused` by the open
 * breaker, of which the provider knows nothing; `stalled` what was to be sent did not come in time;
 * `aborted` our signal.
 */
export type CallFailure =
  | { readonly kind: "status"; readonly status: number; readonly body: string }
  | { readonly kind: "reported"; readonly code: string; readonly message: string }
  | { readonly kind: "broken"; readonly reason: string; readonly cause?: string }
  | {
      readonly kind:
        | "timeout"
        | "unavailable"
        | "lost"
        | "limited"
        | "refused"
        | "stalled"
        | "misconfigured"
        | "aborted";
      readonly cause: string;
    };

/** A failure in the words of providers.md §7.1: `message` for clients, `detail` for logs and rows. */
export interface NormalisedFailure {
  readonly code: ProviderErrorCode;
  readonly message: string;
  readonly detail: string;
}

const fixedMessage = {
  limited: "provider is limiting requests",
  timeout: "provider did not answer in time",
  unavailable: "provider is unavailable",
  refused: "provider is unavailable",
  lost: "the connection to the provider was lost",
  stalled: "the request was not sent in time",
  misconfigured: "internal error",
  aborted: "the call was cancelled",
} as const;

const GENERIC_MESSAGE = "provider reported an error";

/** The table of providers.md §7.1. HTTP status decides before the body does. */
export function normaliseFailure(
  failure: CallFailure,
  confidential: Confidential = nothingConfidential,
): NormalisedFailure {
  const detail = (text: string): string => internalDetail(text, confidential);
  const sanitised = (text: string): string => sanitizeMessage(text, confidential, GENERIC_MESSAGE);
  switch (failure.kind) {
    case "status": {
      const raw = detail(`HTTP ${failure.status}: ${failure.body}`);
      if (failure.status === 429) return { code: "rate_limited", message: fixedMessage.limited, detail: raw };
      if (failure.status === 408 || failure.status === 504) {
        return { code: "provider_timeout", message: fixedMessage.timeout, detail: raw };
      }
      return { code: "provider_error", message: bodyMessage(failure.body, sanitised), detail: raw };
    }
    case "reported": {
      const { code, message } = failure;
      return {
        code: "provider_error",
        message: sanitised(message),
        detail: detail(code === "" ? message : `${code}: ${message}`),
      };
    }
    case "broken": {
      const raw = failure.cause === undefined ? failure.reason : `${failure.reason}: ${failure.cause}`;
      return { code: "provider_error", message: sanitised(failure.reason), detail: detail(raw) };
    }
    case "limited":
      return { code: "rate_limited", message: fixedMessage.limited, detail: detail(failure.cause) };
    case "timeout":
      return { code: "provider_timeout", message: fixedMessage.timeout, detail: detail(failure.cause) };
    case "misconfigured":
      return { code: "internal_error", message: fixedMessage.misconfigured, detail: detail(failure.cause) };
    case "unavailable":
    case "refused":
    case "lost":
    case "stalled":
    case "aborted":
      return { code: "provider_error", message: fixedMessage[failure.kind], detail: detail(failure.cause) };
  }
}

/** How a stream ends with this failure (providers.md §1.4): our own abort is never a failure. */
export function failureOutcome(
  failure: CallFailure,
  confidential: Confidential,
  more: { readonly started: boolean; readonly usage?: ProviderUsage | null; readonly responseId?: string },
): ProviderOutcome {
  const { started, usage = null, responseId } = more;
  if (failure.kind === "aborted") return { kind: "aborted", started };
  return {
    kind: "failed",
    ...normaliseFailure(failure, confidential),
    usage,
    started,
    ...(responseId === undefined ? {} : { responseId }),
  };
}

/** The failure as what `complete` throws; an abort is a `provider_error` the caller tells by its signal. */
export function failureError(
  failure: CallFailure,
  confidential: Confidential,
  started: boolean,
): ProviderError {
  const { code, message, detail } = normaliseFailure(failure, confidential);
  return new ProviderError(code, message, {
    detail,
    started,
    withheld: failure.kind === "limited" || failure.kind === "refused",
    ...(failure.kind === "status" ? { httpStatus: failure.status } : {}),
  });
}

const FALLBACK_TEXT_LENGTH = 200;

/** The message of an error body (§7.1): `{ error: { code, message } }`, `{ code, message }`, else 200 characters of its text. */
const bodyMessage = (body: string, sanitised: (text: string) => string): string => {
  const error = errorOf(parseJson(body));
  if (error !== null) return sanitised(error.message);
  // Cut after hiding: a cut through a secret would make it unrecognisable.
  return sanitised(body).slice(0, FALLBACK_TEXT_LENGTH);
};

/** The error object of a body or event: nested under `error`, or flat. Null when there is none. */
export function errorOf(body: unknown): { readonly code: string; readonly message: string } | null {
  const nested = member(body, "error");
  const error = typeof nested === "object" && nested !== null ? nested : body;
  const message = member(error, "message");
  if (typeof message !== "string") return null;
  const code = member(error, "code");
  return { code: typeof code === "string" || typeof code === "number" ? String(code) : "", message };
}

/** A member of a JSON object; undefined when there is no such member, or no object. */
export const member = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined;

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
