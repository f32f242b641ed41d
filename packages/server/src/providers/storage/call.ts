import type { EgressRequest } from "../attempt.ts";
import { EgressCall } from "../egress.ts";
import type { CallFailure } from "../failure.ts";
import { noRetry, repeatableRetry } from "../retry.ts";
import type { StorageContext, StorageError, StorageUpload } from "../storage-contract.ts";
import type { StorageEndpoint, Upstream } from "../upstream.ts";
import { storageError } from "./failure.ts";
import { multipartUpload } from "./multipart.ts";

export interface StorageRequest {
  readonly endpoint: StorageEndpoint;
  readonly method: "POST" | "GET" | "DELETE";
  readonly path: string;
  /** What the provider calls the objects it is about: in no log line (attachments.md §1). */
  readonly ids?: readonly string[];
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Whether repeating it does no harm (providers.md §8.3). */
  readonly repeatable?: boolean;
}

/** An answer with a 2xx status. */
export interface StorageAnswer {
  /** Undefined when the body is no JSON. */
  readonly body: unknown;
  /** The error of an answer that cannot be used. */
  unusable(): StorageError;
}

/** Makes one call about files or vector stores. Throws `StorageError`, also for any status but 2xx. */
export const storageCall = (
  upstream: Upstream,
  context: StorageContext,
  request: StorageRequest,
): Promise<StorageAnswer> => {
  const { json, ids = [] } = request;
  const sent: EgressRequest = {
    ...egressRequest(upstream, context, request),
    body: json === undefined ? null : JSON.stringify(json),
    contentType: json === undefined ? null : "application/json",
    retry: request.repeatable === true ? repeatableRetry : noRetry,
    totalTimeoutMs: upstream.limits.storageTimeoutMs,
  };
  return send(upstream, context, sent, ids).answer;
};

/**
 * Uploads a file while it is read: at most one piece of it and the socket's buffers are in memory. What
 * the source throws is thrown on unchanged, and closes the socket as the signal does. A source that is
 * waited for when the time is up is `stalled`: no fault of the upstream's either.
 */
export const storageUpload = async (
  upstream: Upstream,
  context: StorageContext,
  path: string,
  file: StorageUpload,
): Promise<StorageAnswer & { readonly bytes: number }> => {
  const form = multipartUpload(file, {
    maxBytes: upstream.limits.maxBodyBytes,
    onFailed: (cause) => call.abort(cause === "source" ? sourceFailed : tooLarge),
  });
  const sent: EgressRequest = {
    ...egressRequest(upstream, context, { endpoint: "files", method: "POST", path }),
    body: form.body,
    contentType: form.contentType,
    retry: noRetry,
    totalTimeoutMs: upstream.limits.uploadTimeoutMs,
    isStalled: () => form.isWaiting,
  };
  const { answer, call } = send(upstream, context, sent, []);
  try {
    return { ...(await answer), bytes: form.bytes };
  } catch (error) {
    throw form.sourceError === null ? error : form.sourceError.error;
  } finally {
    form.stop();
  }
};

// No fault of the upstream's: it must not count in its breaker.
const sourceFailed: CallFailure = { kind: "aborted", cause: "the source of the upload failed" };
const tooLarge: CallFailure = { kind: "misconfigured", cause: "the file exceeds egress.max_body_mb" };

const egressRequest = (
  upstream: Upstream,
  { tenantId, correlationId }: StorageContext,
  { endpoint, method, path }: StorageRequest,
): Omit<EgressRequest, "body" | "contentType" | "retry" | "totalTimeoutMs"> => ({
  endpoint,
  method,
  path,
  accept: "application/json",
  authHeaders: upstream.credentials.headers(),
  tenantId,
  deployment: null,
  correlationId,
});

const send = (
  upstream: Upstream,
  { signal = new AbortController().signal }: StorageContext,
  request: EgressRequest,
  ids: readonly string[],
): { readonly answer: Promise<StorageAnswer>; readonly call: EgressCall } => {
  const { promise, resolve, reject } = Promise.withResolvers<StorageAnswer>();
  const chunks: Buffer[] = [];
  let status = 0;
  const errorOf = (failure: CallFailure): StorageError => {
    const error = storageError(failure, call.confidential, ids);
    logFailure(upstream, request, error);
    return error;
  };
  const call: EgressCall = new EgressCall(upstream, request, signal, {
    head: (received) => {
      status = received;
    },
    data: (chunk) => {
      chunks.push(chunk);
    },
    failed: (failure) => reject(errorOf(failure)),
    end: () => {
      const text = Buffer.concat(chunks).toString("utf8");
      if (status < 300) {
        const unusable = (): StorageError =>
          errorOf({ kind: "broken", reason: "the provider sent an unreadable answer" });
        resolve({ body: parseJson(text), unusable });
      } else {
        reject(errorOf({ kind: "status", status, body: text }));
      }
    },
  });
  call.begin();
  return { answer: promise, call };
};

const logFailure = (
  { logger, providerId: provider }: Upstream,
  { endpoint, correlationId }: EgressRequest,
  { code, httpStatus, detail }: StorageError,
): void => {
  logger.warn(
    { provider, endpoint, correlation_id: correlationId, error_code: code, http_status: httpStatus, detail },
    "storage call failed",
  );
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};
