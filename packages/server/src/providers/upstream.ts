import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Breaker, type BreakerLimits, createBreaker } from "./breaker.ts";
import { type ConcurrencyCap, createConcurrencyCap } from "./concurrency.ts";
import type { Credentials } from "./credentials.ts";
import { openWire, type Wire } from "./wire.ts";

/** Metric label of a call (providers.md §8.5). */
export type Endpoint = "responses_stream" | "responses" | StorageEndpoint;

export type StorageEndpoint =
  | "files"
  | "file_delete"
  | "vector_store_create"
  | "vector_store_add"
  | "vector_store_poll"
  | "vector_store_remove"
  | "vector_store_delete"
  | "list";

/** Timers and sizes of one upstream (providers.md §8.2). */
export interface EgressLimits {
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly nonStreamingTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly uploadTimeoutMs: number;
  /** Of every other call about files and vector stores. */
  readonly storageTimeoutMs: number;
  readonly maxBodyBytes: number;
}

/** One provider host with one set of credentials: its connections, breaker and caps. */
export interface Upstream {
  readonly providerId: string;
  readonly limits: EgressLimits;
  readonly credentials: Credentials;
  readonly wire: Wire;
  readonly breaker: Breaker;
  readonly cap: ConcurrencyCap;
  /** Hosts of all configured upstreams, hidden from clients. */
  readonly hosts: readonly string[];
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Opens an upstream; connections are made when calls need them. */
export function openUpstream(
  options: Omit<Upstream, "wire" | "breaker" | "cap"> & {
    readonly origin: string;
    readonly breakerLimits: BreakerLimits;
    readonly concurrency: { readonly max_concurrent: number; readonly per_tenant_max: number };
  },
): Upstream {
  const { origin, breakerLimits, concurrency, ...rest } = options;
  const onOpen = (): void => {
    rest.metrics.count("egress_circuit_open", { provider: rest.providerId });
    rest.logger.warn({ provider: rest.providerId }, "circuit breaker opened");
  };
  return {
    ...rest,
    wire: openWire(origin, rest.limits),
    breaker: createBreaker(breakerLimits, rest.clock, onOpen),
    cap: createConcurrencyCap(concurrency),
  };
}
