import type { ServerResponse } from "node:http";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Scenario } from "../scenario/scenario.ts";
import type { Capture } from "./capture.ts";
import { type Cutter, cutterOf } from "./cut.ts";

export type Head = Readonly<Record<string, string | number>>;

/** The way to one client: writes, waits and breaks as the scenario says, and ends every wait when it closes. */
export class Line {
  readonly #response: ServerResponse;
  readonly #capture: Capture;
  readonly #cut: Cutter | null;
  readonly #lorisMs: number | null;
  /** Bytes of the body until the connection is reset. */
  #bytesLeft: number;
  #timer: NodeJS.Timeout | null = null;
  #wake: (() => void) | null = null;
  #written = false;
  /** Resolves when the connection is closed or the answer is complete. */
  readonly gone: Promise<void>;
  isGone = false;

  constructor(response: ServerResponse, capture: Capture, scenario: Scenario = {}) {
    this.#response = response;
    this.#capture = capture;
    this.#cut = cutterOf(scenario);
    const { slow_loris, drop_after } = scenario;
    this.#lorisMs =
      slow_loris === undefined || typeof slow_loris === "number"
        ? (slow_loris ?? null)
        : slow_loris.interval_ms;
    this.#bytesLeft = typeof drop_after === "object" && "bytes" in drop_after ? drop_after.bytes : Infinity;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gone = promise;
    const close = (): void => {
      this.isGone = true;
      resolve();
      this.#stopWaiting();
    };
    if (response.destroyed || response.closed) close();
    else response.once("close", close);
  }

  /** Whether neighbouring events may go out as one write. */
  get joins(): boolean {
    return this.#cut === null;
  }

  head(status: number, headers: Head): void {
    if (!this.isGone) this.#response.writeHead(status, headers);
  }

  /** Writes a part of the body in pieces as programmed; counts its deltas, also those nobody receives any more. */
  async write(part: string | Buffer, deltas = 0): Promise<void> {
    if (this.isGone) {
      this.#capture.sent(0, deltas);
      return;
    }
    const bytes = typeof part === "string" ? Buffer.from(part) : part;
    const rest = bytes.length < this.#bytesLeft ? bytes : bytes.subarray(0, this.#bytesLeft);
    this.#bytesLeft -= rest.length;
    this.#capture.sent(deltas, 0);
    if (this.#cut === null) await this.#put(rest);
    else await this.#putPieces(this.#cut(rest));
    if (this.#bytesLeft === 0) await this.drop();
  }

  async #putPieces(pieces: Iterable<Buffer>): Promise<void> {
    for (const piece of pieces) {
      // Of its own turn, so that the pieces do not travel together.
      if (this.#lorisMs === null) await nextTurn();
      else await this.pause(this.#lorisMs);
      if (this.isGone) return;
      await this.#put(piece);
    }
  }

  async #put(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    this.#written = true;
    if (this.#response.write(bytes)) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#response.once("drain", resolve);
    });
  }

  /** Resolves after `ms`, or when the connection closes. */
  pause(ms: number): Promise<void> {
    if (this.isGone) return Promise.resolve();
    this.flush();
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(resolve, ms);
    });
  }

  /** Sends the headers if nothing took them along. */
  flush(): void {
    if (this.#written || !this.#response.headersSent || this.isGone) return;
    this.#written = true;
    this.#response.flushHeaders();
  }

  /** Completes the answer. */
  end(): void {
    if (!this.isGone) this.#response.end();
  }

  /** Resets the connection after everything written before has left. */
  async drop(): Promise<void> {
    if (this.isGone) return;
    const { socket } = this.#response;
    this.flush();
    if (socket !== null && socket.writableLength > 0) {
      await Promise.race([this.gone, new Promise<void>((resolve) => socket.write("", () => resolve()))]);
    }
    this.#capture.endedByServer();
    socket?.resetAndDestroy();
    await this.gone;
  }

  #stopWaiting(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#wake?.();
  }
}
