import { Attempt, type EgressRequest } from "./attempt.ts";
import type { AuthHeaders } from "./credentials.ts";
import type { CallFailure } from "./failure.ts";
import type { RetryVerdict } from "./retry.ts";
import type { Confidential } from "./sanitize.ts";
import type { Upstream } from "./upstream.ts";
import type { ResponseHeaders, WireSink } from "./wire.ts";

/** Our signal fired. */
const ABORTED: CallFailure = { kind: "aborted", cause: "aborted by the caller" };

const traceparentShape = /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/;

/**
 * One call of an adapter: credentials, caps, breaker, the retries its rule allows before the first
 * response byte, and the abort signal in every phase (providers.md §8). The sink hears of the last attempt
 * only: `head`, `data`…, then exactly one of `end` and `failed`.
 */
export class EgressCall implements WireSink {
  readonly #upstream: Upstream;
  readonly #request: EgressRequest;
  readonly #signal: AbortSignal;
  readonly #sink: WireSink;
  readonly #closed = Promise.withResolvers<void>();
  #authHeaders: AuthHeaders = {};
  #attempt: Attempt | null = null;
  #attempts = 0;
  #startedBefore = false;
  /** Between an attempt that is given up and the next one; what still arrives of it is ignored. */
  #retryTimer: NodeJS.Timeout | null = null;
  #releaseCap: (() => void) | null = null;
  #finished = false;

  constructor(upstream: Upstream, request: EgressRequest, signal: AbortSignal, sink: WireSink) {
    this.#upstream = upstream;
    this.#request = request;
    this.#signal = signal;
    this.#sink = sink;
  }

  /** Whether any attempt may have reached the provider (turns.md §11.2). */
  get started(): boolean {
    return this.#startedBefore || this.#attempt?.started === true;
  }

  /** Resolves when the call holds no socket any more: closed, or back in the pool. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** What messages about this call must not show. */
  get confidential(): Confidential {
    const { deployment } = this.#request;
    const secrets = Object.values(this.#authHeaders).flatMap((value) => [
      value,
      ...value.split(" ").slice(1),
    ]);
    return { hosts: this.#upstream.hosts, deployments: deployment === null ? [] : [deployment], secrets };
  }

  /** Starts the call; failures that precede the request are reported before this returns. */
  begin(): void {
    const refusal = this.#refusal();
    if (refusal !== null) {
      this.#fail(refusal);
      return;
    }
    this.#signal.addEventListener("abort", this.#onAbort, { once: true });
    const { fetched } = this.#upstream.credentials;
    if (fetched === null) this.#try();
    else fetched(this.#signal).then(this.#authenticated, this.#unauthenticated);
  }

  pause(): void {
    this.#attempt?.pause();
  }

  resume(): void {
    this.#attempt?.resume();
  }

  /** Destroys the socket, in whatever phase, and reports `failure` unless the end was reported. */
  abort(failure: CallFailure): void {
    if (this.#attempt === null || this.#retryTimer !== null) {
      this.#attempt?.abort(failure);
      this.#fail(failure);
    } else {
      this.#attempt.abort(failure);
    }
  }

  head(status: number, headers: ResponseHeaders): void {
    const retry = this.#request.retry.afterStatus({
      status,
      retryAfter: firstValue(headers["retry-after"]),
      nowMs: this.#upstream.clock.now(),
      retries: this.#attempts - 1,
    });
    if (status === 401) this.#upstream.credentials.refused();
    if (this.#retryTimer !== null || (retry !== null && this.#retry(retry))) return;
    this.#sink.head(status, headers);
  }

  data(chunk: Buffer): void {
    if (this.#retryTimer === null) this.#sink.data(chunk);
  }

  end(): void {
    if (this.#retryTimer !== null || this.#finished) return;
    this.#finish();
    // undici takes the connection back in an immediate it is about to plan: ours comes after it.
    queueMicrotask(() => setImmediate(this.#closed.resolve));
    this.#sink.end();
  }

  failed(failure: CallFailure): void {
    if (this.#retryTimer !== null) return;
    const started = this.#attempt?.started === true;
    const retry = this.#request.retry.afterFailure({ failure, started, retries: this.#attempts - 1 });
    if (retry === null || !this.#retry(retry)) this.#fail(this.#signal.aborted ? ABORTED : failure);
  }

  /** Why the call cannot even begin; null when it can, and then holds its place under the caps. */
  #refusal(): CallFailure | null {
    const { providerId: provider, cap, limits, logger } = this.#upstream;
    const { authHeaders, body, tenantId } = this.#request;
    if (this.#signal.aborted) return ABORTED;
    if (authHeaders === null) {
      logger.error({ provider }, "the credential of a provider is missing");
      return { kind: "misconfigured", cause: "the credential of the provider is missing" };
    }
    if (typeof body === "string" && Buffer.byteLength(body) > limits.maxBodyBytes) {
      return { kind: "misconfigured", cause: "the request exceeds egress.max_body_mb" };
    }
    this.#authHeaders = authHeaders;
    this.#releaseCap = cap.acquire(tenantId);
    return this.#releaseCap === null ? { kind: "limited", cause: "concurrency cap reached" } : null;
  }

  readonly #authenticated = (fetched: AuthHeaders): void => {
    this.#authHeaders = { ...this.#authHeaders, ...fetched };
    this.#try();
  };

  readonly #unauthenticated = (error: unknown): void =>
    this.#fail({ kind: "unavailable", cause: `token: ${String(error)}` });

  readonly #onAbort = (): void => this.abort(ABORTED);

  #try(): void {
    if (this.#finished) return;
    const permit = this.#upstream.breaker.acquire();
    if (permit === null) {
      // A repetition that is refused ends a call the provider has failed.
      const kind = this.#attempts === 0 ? "refused" : "unavailable";
      this.#fail({ kind, cause: "the circuit breaker is open" });
      return;
    }
    this.#attempts += 1;
    this.#attempt = new Attempt(this.#upstream, this.#request, permit, this);
    this.#attempt.begin({ ...this.#headers(), ...this.#authHeaders });
  }

  /** Gives the attempt up and plans the next; false when there were enough. */
  #retry({ delayMs, reason }: RetryVerdict): boolean {
    const { maxRetries } = this.#request.retry;
    if (this.#finished || this.#signal.aborted || this.#attempts > maxRetries) return false;
    const given = this.#attempt;
    this.#startedBefore ||= given?.started === true;
    this.#upstream.metrics.count("egress_retries", { provider: this.#upstream.providerId, reason });
    this.#retryTimer = setTimeout(() => {
      // Its answer had the whole delay to end by itself and free the connection for the next attempt.
      given?.abort(ABORTED);
      this.#retryTimer = null;
      this.#try();
    }, delayMs);
    return true;
  }

  #headers(): Record<string, string> {
    const { accept, contentType, correlationId, traceparent } = this.#request;
    const headers: Record<string, string> = { accept, "x-request-id": correlationId };
    if (contentType !== null) headers["content-type"] = contentType;
    if (traceparent !== undefined && traceparentShape.test(traceparent)) headers.traceparent = traceparent;
    return headers;
  }

  #fail(failure: CallFailure): void {
    if (this.#finished) return;
    this.#finish();
    this.#closed.resolve();
    this.#sink.failed(failure);
  }

  #finish(): void {
    this.#finished = true;
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#releaseCap?.();
  }
}

const firstValue = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header;
