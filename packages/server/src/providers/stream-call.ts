import type { EgressRequest } from "./attempt.ts";
import type { ProviderEvent, ProviderOutcome, ProviderStream, ProviderUsage } from "./contract.ts";
import { EgressCall } from "./egress.ts";
import { EventQueue } from "./event-queue.ts";
import { type CallFailure, failureOutcome } from "./failure.ts";
import { SseError, SseReader } from "./sse.ts";
import type { Upstream } from "./upstream.ts";
import type { ResponseHeaders, WireSink } from "./wire.ts";

/** How a provider's own event ends the answer. */
export type StreamEnd =
  | Extract<ProviderOutcome, { kind: "completed" | "incomplete" }>
  | {
      readonly kind: "failed";
      readonly failure: CallFailure;
      readonly usage: ProviderUsage | null;
      readonly responseId?: string;
    };

/** Turns the events of one provider's stream into ours; remembers what it must between them. */
export interface StreamTranslator {
  /** The provider's id of the answer, once known. */
  readonly responseId: string | undefined;
  /** Adds what the event means to `events`; returns the end when it is the last one. Never throws. */
  translate(name: string, data: string, events: ProviderEvent[]): StreamEnd | null;
}

/** After the terminal event the rest is read this long, so that the connection can be used again (§1.4). */
const DRAIN_MS = 2_000;
/** How much of an error response is read, and for how long after its headers (§5). */
const ERROR_BODY_BYTES = 65_536;
const ERROR_BODY_MS = 5_000;
/** Bytes read ahead of a consumer that is behind. */
const READ_AHEAD_BYTES = 262_144;

/** Makes the call and streams its events; the rules of providers.md §5 common to all adapters. */
export function streamCall(
  upstream: Upstream,
  request: EgressRequest,
  translator: StreamTranslator,
  signal: AbortSignal,
): ProviderStream {
  return new StreamCall(upstream, request, translator, signal).begin();
}

class StreamCall implements WireSink {
  readonly #call: EgressCall;
  readonly #upstream: Upstream;
  readonly #translator: StreamTranslator;
  readonly #queue: EventQueue;
  readonly #reader = new SseReader((name, data) => this.#onEvent(name, data));
  /** What this read brought: it may come in many HTTP chunks, and is parsed as one piece after them. */
  #chunks: Buffer[] = [];
  #events: ProviderEvent[] = [];
  #end: StreamEnd | null = null;
  #aheadBytes = 0;
  #paused = false;
  /** The answer, when it is not an event stream. */
  #error: { readonly status: number; body: Buffer } | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** The response is over, one way or another. */
  #over = false;
  /** We close the socket although nothing is wrong with the outcome. */
  #closing = false;

  constructor(upstream: Upstream, request: EgressRequest, translator: StreamTranslator, signal: AbortSignal) {
    this.#upstream = upstream;
    this.#translator = translator;
    this.#call = new EgressCall(upstream, request, signal, this);
    this.#queue = new EventQueue(
      this.#call.closed,
      () => this.#readOn(),
      () => this.#call.abort({ kind: "aborted", cause: "the consumer left" }),
    );
  }

  begin(): ProviderStream {
    this.#call.begin();
    return this.#queue;
  }

  head(status: number, headers: ResponseHeaders): void {
    if (status < 300 && eventStream.test(String(headers["content-type"] ?? ""))) return;
    this.#error = { status, body: Buffer.alloc(0) };
    this.#timer = setTimeout(() => this.#settleError(), ERROR_BODY_MS);
  }

  data(chunk: Buffer): void {
    if (this.#queue.ended) return;
    if (this.#error !== null) {
      this.#error.body = Buffer.concat([this.#error.body, chunk]).subarray(0, ERROR_BODY_BYTES);
      if (this.#error.body.length === ERROR_BODY_BYTES) this.#settleError();
      return;
    }
    this.#chunks.push(chunk);
    if (this.#chunks.length === 1) queueMicrotask(() => this.#parse());
    this.#aheadBytes += chunk.length;
    if (this.#aheadBytes > READ_AHEAD_BYTES && !this.#paused) {
      this.#paused = true;
      this.#call.pause();
    }
  }

  end(): void {
    this.#over = true;
    this.#stopTimer();
    this.#parse();
    if (this.#error !== null) this.#settleError();
    else if (!this.#queue.ended) this.#read(() => this.#reader.end());
    if (this.#queue.ended) return;
    this.#countStreamError();
    this.#fail({ kind: "broken", reason: "the provider ended the stream early" });
  }

  failed(failure: CallFailure): void {
    this.#over = true;
    this.#stopTimer();
    if (this.#closing) return;
    if (failure.kind === "aborted") {
      this.#queue.abort(this.#call.started);
      return;
    }
    // What arrived before the failure still counts, even an end.
    this.#parse();
    if (this.#error !== null) this.#settleError();
    else this.#fail(failure);
  }

  #parse(): void {
    const chunks = this.#chunks;
    const first = chunks[0];
    if (first === undefined || this.#queue.ended) return;
    this.#chunks = [];
    const bytes = chunks.length === 1 ? first : Buffer.concat(chunks);
    this.#read(() => this.#reader.feed(bytes));
  }

  #read(step: () => void): void {
    let unreadable: CallFailure | null = null;
    try {
      step();
    } catch (error) {
      if (!(error instanceof SseError)) throw error;
      unreadable = { kind: "broken", reason: error.message };
    }
    const events = this.#events;
    this.#events = [];
    this.#queue.push(events);
    // A part of an event waits for no consumer, only for its rest.
    if (this.#queue.idle) this.#readOn();
    if (this.#end !== null) this.#finish(this.#end);
    else if (unreadable !== null) this.#giveUp(unreadable);
  }

  #onEvent(name: string, data: string): void {
    // Nothing after the end counts.
    if (this.#end === null) this.#end = this.#translator.translate(name, data, this.#events);
  }

  /** The provider's own end: the rest of the body is only read so that the connection can be used again. */
  #finish(end: StreamEnd): void {
    if (end.kind !== "failed") {
      this.#queue.end(end);
    } else if (end.failure.kind === "broken") {
      this.#giveUp(end.failure);
      return;
    } else {
      this.#countStreamError();
      this.#fail(end.failure, end);
    }
    if (this.#over) return;
    if (this.#paused) this.#call.resume();
    this.#timer = setTimeout(() => this.#close(), DRAIN_MS);
  }

  /** What was sent cannot be used, so neither can the rest. */
  #giveUp(failure: CallFailure): void {
    if (!this.#over) this.#call.abort(failure);
    else this.#countStreamError();
    this.#fail(failure);
  }

  #settleError(): void {
    const { status, body } = this.#error ?? { status: 0, body: Buffer.alloc(0) };
    this.#fail({ kind: "status", status, body: body.toString("utf8") });
    if (!this.#over) this.#close();
  }

  #fail(failure: CallFailure, known: { usage?: ProviderUsage | null; responseId?: string } = {}): void {
    const { confidential, started } = this.#call;
    const { responseId = this.#translator.responseId, usage = null } = known;
    this.#queue.end(
      failureOutcome(failure, confidential, {
        started,
        usage,
        ...(responseId === undefined ? {} : { responseId }),
      }),
    );
  }

  #close(): void {
    this.#closing = true;
    this.#stopTimer();
    this.#call.abort({ kind: "aborted", cause: "no longer needed" });
  }

  #readOn(): void {
    this.#aheadBytes = 0;
    if (!this.#paused) return;
    this.#paused = false;
    this.#call.resume();
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #countStreamError(): void {
    this.#upstream.metrics.count("provider_errors", {
      provider: this.#upstream.providerId,
      status: "stream",
    });
  }
}

const eventStream = /^\s*text\/event-stream\s*(;|$)/i;
