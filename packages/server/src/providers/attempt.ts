import type { TenantId } from "../auth/actor.ts";
import type { Permit } from "./breaker.ts";
import type { AuthHeaders } from "./credentials.ts";
import type { CallFailure } from "./failure.ts";
import type { RetryRule } from "./retry.ts";
import type { Endpoint, Upstream } from "./upstream.ts";
import type { Exchange, ResponseHeaders, WireBody, WireMethod, WireSink } from "./wire.ts";

export interface EgressRequest {
  readonly endpoint: Endpoint;
  readonly method: WireMethod;
  readonly path: string;
  readonly accept: string;
  readonly body: WireBody;
  /** Null without a body. */
  readonly contentType: string | null;
  readonly retry: RetryRule;
  readonly authHeaders: AuthHeaders | null;
  /** Whose share of the caps the call takes; null takes none of a tenant's. */
  readonly tenantId: TenantId | null;
  /** What the provider calls the model: never shown to clients. Null for a call without a model. */
  readonly deployment: string | null;
  readonly correlationId: string;
  readonly traceparent?: string;
  /** Bounds each attempt as a whole; null for streams. */
  readonly totalTimeoutMs: number | null;
  /** Whether the body waits for its source, whose fault it then is when the time is up. */
  readonly isStalled?: () => boolean;
}

/** Statuses that count against the upstream in its breaker (providers.md §8.3). */
const breakerStatuses = new Set([500, 502, 503, 504]);

const requestIdHeaders = ["x-request-id", "apim-request-id", "request-id"] as const;

/**
 * One try of a call: reports to the breaker, counts and times it, bounds its duration and its size,
 * and passes everything on to `sink` (providers.md §8.2, §8.3, §8.5).
 */
export class Attempt implements WireSink {
  readonly #upstream: Upstream;
  readonly #request: EgressRequest;
  readonly #permit: Permit;
  readonly #sink: WireSink;
  readonly #beganAt = performance.now();
  #exchange: Exchange | null = null;
  #totalTimer: NodeJS.Timeout | null = null;
  #bytes = 0;
  #status = 0;
  #providerRequestId: string | undefined;

  constructor(upstream: Upstream, request: EgressRequest, permit: Permit, sink: WireSink) {
    this.#upstream = upstream;
    this.#request = request;
    this.#permit = permit;
    this.#sink = sink;
  }

  get started(): boolean {
    return this.#exchange?.started === true;
  }

  begin(headers: Readonly<Record<string, string>>): void {
    const { limits, metrics, wire } = this.#upstream;
    const { method, path, body, totalTimeoutMs } = this.#request;
    metrics.count("provider_requests", this.#labels);
    if (totalTimeoutMs !== null) {
      this.#totalTimer = setTimeout(() => {
        const kind = this.#request.isStalled?.() === true ? "stalled" : "timeout";
        this.abort({ kind, cause: `no complete answer in ${totalTimeoutMs} ms` });
      }, totalTimeoutMs);
    }
    this.#exchange = wire.send(
      {
        method,
        path,
        headers,
        body,
        headersTimeoutMs: totalTimeoutMs ?? limits.headersTimeoutMs,
        idleTimeoutMs: limits.idleTimeoutMs,
      },
      this,
    );
  }

  pause(): void {
    this.#exchange?.pause();
  }

  resume(): void {
    this.#exchange?.resume();
  }

  abort(failure: CallFailure): void {
    this.#exchange?.abort(failure);
  }

  head(status: number, headers: ResponseHeaders): void {
    const { metrics, providerId: provider } = this.#upstream;
    this.#status = status;
    for (const name of requestIdHeaders) this.#providerRequestId ??= String(headers[name] ?? "") || undefined;
    metrics.observe("egress_upstream_latency_ms", this.#labels, performance.now() - this.#beganAt);
    if (status >= 400) metrics.count("provider_errors", { provider, status: String(status) });
    if (breakerStatuses.has(status)) this.#permit.failed();
    else this.#permit.answered();
    this.#sink.head(status, headers);
  }

  data(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#upstream.limits.maxBodyBytes) {
      this.abort({ kind: "broken", reason: "the provider sent too much" });
    } else {
      this.#sink.data(chunk);
    }
  }

  end(): void {
    this.#permit.succeeded();
    this.#finish();
    this.#sink.end();
  }

  failed(failure: CallFailure): void {
    const label = errorLabel(failure);
    const { metrics, providerId: provider } = this.#upstream;
    if (label !== null) metrics.count("provider_errors", { provider, status: label });
    if (label === "timeout" || label === "transport") this.#permit.failed();
    else this.#permit.abandoned();
    this.#finish(failure);
    this.#sink.failed(failure);
  }

  get #labels() {
    return { provider: this.#upstream.providerId, endpoint: this.#request.endpoint };
  }

  #finish(failure?: CallFailure): void {
    if (this.#totalTimer !== null) clearTimeout(this.#totalTimer);
    const duration = performance.now() - this.#beganAt;
    this.#upstream.metrics.observe("provider_latency_ms", this.#labels, duration);
    this.#upstream.logger.info(
      {
        ...this.#labels,
        http_status: this.#status,
        provider_request_id: this.#providerRequestId,
        correlation_id: this.#request.correlationId,
        processing_stage: "provider_call",
        status: failure === undefined ? "ok" : failure.kind === "aborted" ? "cancelled" : "error",
        failure: failure?.kind,
        duration_ms: Math.round(duration),
      },
      "provider call ended",
    );
  }
}

/** The `status` label of a failure that is no HTTP status (ops.md §5). */
const errorLabel = (failure: CallFailure): "timeout" | "transport" | "stream" | null => {
  switch (failure.kind) {
    case "timeout":
      return "timeout";
    case "unavailable":
    case "lost":
      return "transport";
    case "broken":
    case "reported":
      return "stream";
    default:
      return null;
  }
};
