import { Socket } from "node:net";
import { Readable } from "node:stream";
import { buildConnector, type Dispatcher, Pool } from "undici";
import type { CallFailure } from "./failure.ts";

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

export type WireMethod = "POST" | "GET" | "DELETE";

/** Text is sent with its length; bytes that come one after the other in HTTP chunks, as fast as they are taken. */
export type WireBody = string | AsyncIterable<Uint8Array> | null;

export interface WireRequest {
  readonly method: WireMethod;
  /** Path and query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: WireBody;
  /** From the request being written to the response headers. */
  readonly headersTimeoutMs: number;
  /** Longest silence inside the body; time spent paused does not count. */
  readonly idleTimeoutMs: number;
}

/** What one exchange reports: `head`, then `data` any number of times, then one of `end` and `failed`. */
export interface WireSink {
  head(status: number, headers: ResponseHeaders): void;
  data(chunk: Buffer): void;
  end(): void;
  failed(failure: CallFailure): void;
}

/** Connections to one origin: HTTP/1.1, kept alive, one exchange at a time on each. */
export interface Wire {
  /** Begins a request. Nothing is reported before this returns. */
  send(request: WireRequest, sink: WireSink): Exchange;
  /** Closes idle connections and destroys busy ones, whose exchanges fail. */
  close(): Promise<void>;
}

// Without a hint of the server: long enough to spare most turns the TLS handshake, short enough that
// a connection the server is about to drop is rarely picked.
const KEEP_ALIVE_MS = 30_000;

/**
 * Opens the wire to `origin`. It follows no redirects, speaks no HTTP/2 (an abort must close the
 * socket, not one stream on it) and has no other limit of connections than its callers.
 */
export function openWire(origin: string, limits: { readonly connectTimeoutMs: number }): Wire {
  const connector = buildConnector({ timeout: limits.connectTimeoutMs, allowH2: false });
  let sending: Exchange | null = null;
  const pool = new Pool(origin, {
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MS,
    allowH2: false,
    connect: (options, callback) => {
      const socket: unknown = connector(options, callback);
      if (socket instanceof Socket) sending?.connectingWith(socket);
    },
  });
  return {
    send: (request, sink) => {
      const exchange = new Exchange(sink);
      // A pool connects inside `dispatch`, if it must: this is how a request knows its new socket.
      sending = exchange;
      try {
        pool.dispatch(
          {
            method: request.method,
            path: request.path,
            headers: request.headers,
            body: dispatchBody(request.body),
            headersTimeout: request.headersTimeoutMs,
            bodyTimeout: request.idleTimeoutMs,
          },
          exchange,
        );
      } finally {
        sending = null;
      }
      return exchange;
    },
    close: () => pool.destroy(),
  };
}

/** A stream is read no faster than the socket takes it, and destroyed with the request. */
const dispatchBody = (body: WireBody): string | Readable | null =>
  typeof body === "object" && body !== null ? Readable.from(body, { objectMode: false }) : body;

/** One request and its response. Its public methods are for the caller; undici drives the `on…` ones. */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #sink: WireSink;
  #controller: Dispatcher.DispatchController | null = null;
  #connecting: Socket | null = null;
  #ended = false;
  /** Whether the request may have reached the provider: true from the moment it is written. */
  started = false;

  constructor(sink: WireSink) {
    this.#sink = sink;
  }

  /** Stops reading; the sender is slowed down once the socket's buffers are full. */
  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }

  /** Destroys the socket at once, in whatever phase, and reports `failure` unless the end was reported. */
  abort(failure: CallFailure): void {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#controller !== null) this.#controller.abort(new Error("aborted"));
    else this.#connecting?.destroy(new Error("aborted"));
    this.#sink.failed(failure);
  }

  connectingWith(socket: Socket): void {
    this.#connecting = socket;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.#ended) {
      controller.abort(new Error("aborted"));
      return;
    }
    this.started = true;
    this.#connecting = null;
    this.#controller = controller;
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: ResponseHeaders,
  ): void {
    // Informational answers (1xx) come before the one that counts.
    if (!this.#ended && status >= 200) this.#sink.head(status, headers);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#ended) this.#sink.data(chunk);
  }

  onResponseEnd(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#sink.end();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    const failure = transportFailure(error, this.started);
    // A request that cannot be sent fails inside `send`, before the caller knows its exchange.
    queueMicrotask(() => this.#sink.failed(failure));
  }
}

const timeoutCodes = new Set([
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "ETIMEDOUT",
]);

/** Reads an error of undici or the socket (providers.md §7.1). */
const transportFailure = (error: Error, started: boolean): CallFailure => {
  const code = "code" in error ? String(error.code) : error.name;
  const cause = `${code}: ${error.message}`;
  if (timeoutCodes.has(code)) return { kind: "timeout", cause };
  if (code === "UND_ERR_INVALID_ARG") return { kind: "misconfigured", cause };
  if (!started) return { kind: "unavailable", cause };
  return error.name === "HTTPParserError"
    ? { kind: "broken", reason: "the provider sent an unreadable answer", cause }
    : { kind: "lost", cause };
};
