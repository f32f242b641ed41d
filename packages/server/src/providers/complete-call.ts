import type { EgressRequest } from "./attempt.ts";
import type { ProviderError } from "./contract.ts";
import { EgressCall } from "./egress.ts";
import { type CallFailure, failureError } from "./failure.ts";
import type { Upstream } from "./upstream.ts";

/** A whole JSON answer, and how to report that it is not what it should be. */
export interface WholeAnswer {
  readonly body: unknown;
  /** The error of an answer that says, or is, a failure. */
  error(failure: CallFailure): ProviderError;
}

/** Makes the call and reads the whole JSON answer. Throws `ProviderError`, also when the signal fires. */
export function completeCall(
  upstream: Upstream,
  request: EgressRequest,
  signal: AbortSignal,
): Promise<WholeAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<WholeAnswer>();
  const chunks: Buffer[] = [];
  let status = 0;
  const error = (failure: CallFailure): ProviderError =>
    failureError(failure, call.confidential, call.started);
  const call: EgressCall = new EgressCall(upstream, request, signal, {
    head: (received) => {
      status = received;
    },
    data: (chunk) => {
      chunks.push(chunk);
    },
    failed: (failure) => reject(error(failure)),
    end: () => {
      const text = Buffer.concat(chunks).toString("utf8");
      if (status >= 300) {
        reject(error({ kind: "status", status, body: text }));
        return;
      }
      try {
        resolve({ body: JSON.parse(text), error });
      } catch {
        reject(error({ kind: "broken", reason: "the provider sent an unreadable answer" }));
      }
    },
  });
  call.begin();
  return promise;
}
