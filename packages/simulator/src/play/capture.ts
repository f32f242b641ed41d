import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";

/** How a request ended. */
export interface Closed {
  /** ms since 1970. */
  readonly at: number;
  /** `client`: the connection was closed before the answer was complete. */
  readonly by: "client" | "server";
  readonly deltasSent: number;
  /** Deltas played into the void after the client had left (`on_abort: "continue"`). */
  readonly deltasSentAfterAbort: number;
}

/** A request as it was received; the counters go on while it is answered. */
export interface CapturedRequest {
  readonly id: number;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** Without the question mark; "" when there is none. */
  readonly query: string;
  /** Lower-case names. Credentials are replaced by `credentialHash` of them. */
  readonly headers: Readonly<Record<string, string>>;
  /** JSON as a value, a form as its fields, anything else as text; null when there is none. */
  readonly body: unknown;
  /** When the body was complete; ms since 1970. */
  readonly receivedAt: number;
  /** Name of the scenario that answers, where it has one. */
  readonly scenario: string | null;
  readonly deltasSent: number;
  readonly closedAt: number | null;
  readonly closedBy: "client" | "server" | null;
  /** Resolves when the answer is complete or the connection closed, and the scenario has come to its end. */
  readonly closed: Promise<Closed>;
}

/** What is captured of a credential header's value. */
export const credentialHash = (value: string): string =>
  `sha256:${createHash("sha256").update(value).digest("hex")}`;

const credentialHeaders = new Set(["authorization", "api-key", "x-api-key", "proxy-authorization", "cookie"]);

export class Capture implements CapturedRequest {
  readonly id: number;
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly receivedAt = Date.now();
  readonly closed: Promise<Closed>;
  readonly #resolveClosed: (closed: Closed) => void;
  scenario: string | null = null;
  deltasSent = 0;
  deltasSentAfterAbort = 0;
  closedAt: number | null = null;
  closedBy: "client" | "server" | null = null;
  #endedByServer = false;
  #over = false;

  constructor(id: number, request: IncomingMessage, body: unknown) {
    const url = request.url ?? "/";
    const queryAt = url.indexOf("?");
    this.id = id;
    this.method = request.method ?? "";
    this.path = queryAt === -1 ? url : url.slice(0, queryAt);
    this.query = queryAt === -1 ? "" : url.slice(queryAt + 1);
    this.headers = readHeaders(request);
    this.body = body;
    const { promise, resolve } = Promise.withResolvers<Closed>();
    this.closed = promise;
    this.#resolveClosed = resolve;
  }

  sent(deltas: number, deltasAfterAbort: number): void {
    this.deltasSent += deltas;
    this.deltasSentAfterAbort += deltasAfterAbort;
  }

  /** The close to come is our own doing. */
  endedByServer(): void {
    this.#endedByServer = true;
  }

  connectionClosed(complete: boolean): void {
    if (this.closedAt !== null) return;
    this.closedAt = Date.now();
    this.closedBy = complete || this.#endedByServer ? "server" : "client";
    this.#settle();
  }

  scenarioOver(): void {
    this.#over = true;
    this.#settle();
  }

  #settle(): void {
    if (!this.#over || this.closedAt === null || this.closedBy === null) return;
    const { closedAt: at, closedBy: by, deltasSent, deltasSentAfterAbort } = this;
    this.#resolveClosed({ at, by, deltasSent, deltasSentAfterAbort });
  }
}

const readHeaders = (request: IncomingMessage): Record<string, string> =>
  Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => {
      const text = Array.isArray(value) ? value.join(", ") : (value ?? "");
      return [name, credentialHeaders.has(name) ? credentialHash(text) : text];
    }),
  );
