import { type CallFailure, normaliseFailure } from "../failure.ts";
import { type Confidential, sanitizeMessage } from "../sanitize.ts";
import { StorageError, type StorageErrorCode, type StorageFailureReason } from "../storage-contract.ts";

/** 4xx answers that do not say no for good (providers.md §9.1). */
const retryable4xx = new Set([401, 403, 408, 409, 425, 429]);

/** Whether another attempt may succeed: everything but the 4xx that say no for good. */
export const isRetryableStatus = (status: number): boolean =>
  status < 400 || status >= 500 || retryable4xx.has(status);

/**
 * A failed call in the words of providers.md §9; `detail` has passed the filter of §7.2, which knows what most
 * ids look like, and shows none of the `ids` the call was about.
 */
export function storageError(
  failure: CallFailure,
  confidential: Confidential,
  ids: readonly string[],
): StorageError {
  const { detail } = normaliseFailure(failure, confidential);
  const httpStatus = failure.kind === "status" ? failure.status : undefined;
  return new StorageError(codeOf(failure), {
    detail: sanitizeMessage(withoutIds(detail, ids), confidential, failure.kind),
    reason: reasons[failure.kind],
    retryable: httpStatus === undefined || isRetryableStatus(httpStatus),
    ...(httpStatus === undefined ? {} : { httpStatus }),
  });
}

// Shorter ones would blank out ordinary words.
const minIdLength = 4;

const withoutIds = (text: string, ids: readonly string[]): string => {
  let clean = text;
  for (const id of ids) {
    if (id.length < minIdLength) continue;
    for (const form of [id, encodeURIComponent(id)]) clean = clean.replaceAll(form, "[provider_id]");
  }
  return clean;
};

const reasons: Readonly<Record<CallFailure["kind"], StorageFailureReason>> = {
  status: "status",
  reported: "unreadable",
  broken: "unreadable",
  timeout: "timeout",
  unavailable: "transport",
  lost: "transport",
  limited: "limited",
  refused: "refused",
  stalled: "stalled",
  misconfigured: "configuration",
  aborted: "aborted",
};

const codeOf = (failure: CallFailure): StorageErrorCode => {
  switch (failure.kind) {
    case "status":
      if (failure.status < 400) return "response_parse_error";
      return failure.status < 500 ? "provider_rejected" : "provider_unavailable";
    case "reported":
    case "broken":
      return "response_parse_error";
    case "misconfigured":
      return "configuration_error";
    default:
      return "provider_unavailable";
  }
};
