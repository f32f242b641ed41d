import type { IncomingMessage, ServerResponse } from "node:http";
import { Capture, type CapturedRequest } from "./capture.ts";

/** The oldest requests are forgotten, so that a load test does not fill the memory. */
const MAX_REQUESTS = 1_000;

interface Waiter {
  readonly predicate: (request: CapturedRequest) => boolean;
  readonly resolve: (request: CapturedRequest) => void;
  readonly reject: (error: unknown) => void;
}

/** Keeps the latest requests, and whoever waits for one. */
export class Recorder {
  #captures: Capture[] = [];
  #waiters: Waiter[] = [];
  #lastId = 0;
  #closed = false;
  /** Requests whose answer is under way. */
  readonly active = new Set<Capture>();

  /** Records the request, also when its client has left meanwhile; the response's close is its end. */
  record(request: IncomingMessage, response: ServerResponse, body: unknown): Capture {
    this.#lastId += 1;
    const capture = new Capture(this.#lastId, request, body);
    this.active.add(capture);
    const closed = (): void => {
      this.active.delete(capture);
      capture.connectionClosed(response.writableFinished);
    };
    if (response.closed || response.destroyed) closed();
    else response.once("close", closed);
    this.#captures.push(capture);
    // In blocks: moving the whole list at every request would cost more than the request.
    if (this.#captures.length > 2 * MAX_REQUESTS) this.#captures = this.#captures.slice(-MAX_REQUESTS);
    this.#tell(capture);
    return capture;
  }

  get requests(): readonly Capture[] {
    return this.#captures.slice(-MAX_REQUESTS);
  }

  get count(): number {
    return Math.min(this.#captures.length, MAX_REQUESTS);
  }

  clear(): void {
    this.#captures = [];
  }

  /** The first request so far or from now on that satisfies the predicate; rejects when the simulator closes. */
  waitFor(predicate: (request: CapturedRequest) => boolean): Promise<CapturedRequest> {
    const known = this.requests.find(predicate);
    if (known !== undefined) return Promise.resolve(known);
    if (this.#closed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => this.#waiters.push({ predicate, resolve, reject }));
  }

  /** From here on every close is the server's. */
  shutDown(): void {
    this.#closed = true;
    for (const capture of this.active) capture.endedByServer();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closedError());
  }

  #tell(capture: Capture): void {
    if (this.#waiters.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => {
      try {
        if (!waiter.predicate(capture)) return true;
        waiter.resolve(capture);
      } catch (error) {
        waiter.reject(error);
      }
      return false;
    });
  }
}

const closedError = (): Error => new Error("the simulator was closed before such a request came");
