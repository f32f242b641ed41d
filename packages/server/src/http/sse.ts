import type { ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import { exchangeOf } from "./exchange.ts";

export interface SseOptions {
  /** Milliseconds of silence after which `onSilence` is called, and called again. */
  readonly silenceMs: number;
  /** Default: a comment line, which no client sees. */
  readonly onSilence?: () => void;
  /** A client that drains nothing for this long counts as gone (turns.md §5.4). */
  readonly stalledMs: number;
}

/** One open event stream (api.md §6). */
export interface SseWriter {
  /**
   * Hands complete frames to the socket in one write. False = the client is behind: await `drained()`
   * before writing more. A no-op once closed or ended.
   */
  write(frames: string): boolean;
  /** Resolves when the client caught up, or is gone, or the stream ended; at once when nothing waits. */
  drained(): Promise<void>;
  /** Writes a keep-alive line. */
  comment(): void;
  /** The client left, or drained nothing for too long, before the stream ended. */
  readonly closed: boolean;
  /** Called once when `closed` becomes true; at once when it already is. */
  onClose(listener: () => void): void;
  /**
   * Ends the stream and closes the connection once the client has everything, or has drained nothing for
   * too long.
   */
  end(): void;
}

const streamHeaders = {
  "content-type": "text/event-stream",
  "cache-control": "no-cache",
  "x-accel-buffering": "no",
  connection: "close",
} as const;

/** Opens the stream: sends the headers and takes the response out of the framework's hands. */
export function openSse(reply: FastifyReply, options: SseOptions): SseWriter {
  reply.hijack();
  const { raw } = reply;
  // A body nobody reads would stop the socket, and with it the notice that the client left.
  reply.request.raw.resume();
  raw.writeHead(200, { ...plainHeaders(reply), ...streamHeaders });
  exchangeOf(reply.request.raw).release?.();
  const writer = attach(raw, options);
  // Headers and an event of this tick travel in one packet; without one the headers go alone.
  // Not `cork()`: Node loses what is corked when `end()` comes in the same tick (a replay does that).
  setImmediate(() => {
    if (!raw.writableEnded && raw.writable) raw.flushHeaders();
  });
  return writer;
}

const plainHeaders = (reply: FastifyReply): Record<string, string | number | string[]> =>
  Object.fromEntries(
    Object.entries(reply.getHeaders()).flatMap(([name, value]) =>
      value === undefined || name === "content-length" ? [] : [[name, value]],
    ),
  );

interface Watched {
  /** Called every tick with `performance.now()`. */
  check(now: number): void;
}

// One timer for all streams of the process: a timer per stream costs more than the check itself.
const tickMs = 250;
const watched = new Set<Watched>();
let ticker: NodeJS.Timeout | undefined;

const watch = (stream: Watched): void => {
  watched.add(stream);
  ticker ??= setInterval(() => {
    const now = performance.now();
    for (const one of watched) one.check(now);
  }, tickMs).unref();
};

const unwatch = (stream: Watched): void => {
  watched.delete(stream);
  if (watched.size > 0) return;
  clearInterval(ticker);
  ticker = undefined;
};

const attach = (raw: ServerResponse, options: SseOptions): SseWriter => {
  let state: "open" | "closed" | "ended" = "open";
  let lastWriteAt = performance.now();
  let stall: { readonly since: number; readonly pending: number } | undefined;
  let waiting: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  const listeners: (() => void)[] = [];

  const release = (): void => {
    stall = undefined;
    waiting?.resolve();
    waiting = undefined;
  };
  const close = (): void => {
    unwatch(stream);
    if (state === "open") {
      state = "closed";
      for (const listener of listeners.splice(0)) listener();
    }
    release();
  };
  const stream: Watched = {
    check: (now) => {
      // Also behind the last frame: its reader may hold the connection no longer than any other.
      if (state === "ended") stall ??= { since: now, pending: raw.writableLength };
      if (stall !== undefined) {
        const pending = raw.writableLength;
        if (pending < stall.pending) stall = { since: now, pending };
        else if (now - stall.since >= options.stalledMs) raw.destroy();
      } else if (now - lastWriteAt >= options.silenceMs) {
        lastWriteAt = now;
        (options.onSilence ?? writer.comment)();
      }
    },
  };
  const writer: SseWriter = {
    write: (frames) => {
      if (state !== "open") return true;
      lastWriteAt = performance.now();
      const kept = raw.write(frames);
      if (!kept) stall ??= { since: lastWriteAt, pending: raw.writableLength };
      return kept;
    },
    drained: () => {
      if (state !== "open" || stall === undefined) return Promise.resolve();
      waiting ??= Promise.withResolvers<void>();
      return waiting.promise;
    },
    comment: () => void writer.write(":\n\n"),
    get closed() {
      return state === "closed";
    },
    onClose: (listener) => {
      if (state === "closed") listener();
      else listeners.push(listener);
    },
    end: () => {
      if (state !== "open") return;
      state = "ended";
      release();
      raw.end();
    },
  };
  raw.on("drain", release);
  raw.on("close", close);
  // A write that races with the client's leaving; `close` follows and says all there is to say.
  raw.on("error", () => {});
  if (raw.destroyed || raw.closed) close();
  else watch(stream);
  return writer;
};
