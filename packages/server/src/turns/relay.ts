import type { SseWriter } from "../http/sse.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Cancellation } from "./cancellation.ts";
import { encodeEvent, type StreamEvent, StreamGrammar } from "./grammar.ts";

export interface RelayDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** `streaming.sse_channel_capacity`: events handed to a slow client before the provider waits. */
  readonly channelCapacity: number;
  /** How long a turn of `on_disconnect: continue` may go on without a client. */
  readonly detachedMaxMs: number;
}

/** Opens the response; `onSilence` is called whenever nothing was written for the ping interval. */
export type OpenStream = (onSilence: () => void) => SseWriter;

/**
 * Feeds a client from a running turn and drains the turn to its end, client or not (turns.md §8–9).
 * A closed response cancels the turn, or starts its detached time with `continue`. A client that
 * reads slowly slows the provider down; a cancellation never waits for it.
 */
export const relay = async (
  deps: RelayDeps,
  turn: { readonly id: string; readonly onDisconnect: "cancel" | "continue" },
  events: AsyncIterable<readonly StreamEvent[]>,
  open: OpenStream,
  cancellation: Cancellation,
): Promise<void> => {
  const grammar = new StreamGrammar();
  const write = (batch: readonly StreamEvent[]): boolean => {
    let frames = "";
    for (const event of batch) {
      if (grammar.accept(event)) frames += encodeEvent(event);
      else deps.logger.warn({ turn_id: turn.id, event: event.event }, "event out of order dropped");
    }
    return frames === "" || client === null || client.write(frames);
  };
  const client = openOrNull(deps, turn.id, open, () => {
    // A ping is an event and may stand only before content; a comment is outside the grammar.
    if (grammar.acceptsPing) write([{ event: "ping", data: {} }]);
    else client?.comment();
  });
  const detached: { timer?: NodeJS.Timeout } = {};
  const leave = (): void => {
    if (turn.onDisconnect === "cancel") cancellation.cancel("disconnect");
    else detached.timer = setTimeout(() => cancellation.cancel("disconnect"), deps.detachedMaxMs);
  };
  if (client === null) leave();
  else onClientGone(deps.metrics, client, grammar, leave);
  const cancelled = new Promise<void>((resolve) => {
    if (cancellation.signal.aborted) resolve();
    else cancellation.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  try {
    for await (const batch of events) {
      for (let at = 0; at < batch.length && client?.closed === false; at += deps.channelCapacity) {
        const part =
          batch.length <= deps.channelCapacity ? batch : batch.slice(at, at + deps.channelCapacity);
        if (!write(part)) await Promise.race([client.drained(), cancelled]);
      }
    }
  } catch (error) {
    deps.logger.error({ err: error, turn_id: turn.id }, "a turn's stream broke off");
  } finally {
    clearTimeout(detached.timer);
    // Whatever happened, the client is not left waiting; the database says how the turn stands (§5.3).
    if (!grammar.ended) {
      const message = "The stream was interrupted; ask for the turn's status.";
      write([{ event: "error", data: { code: "stream_interrupted", message } }]);
    }
    client?.end();
  }
};

/** Null when the response cannot be opened: the turn runs to its end all the same. */
const openOrNull = (
  deps: RelayDeps,
  turnId: string,
  open: OpenStream,
  onSilence: () => void,
): SseWriter | null => {
  try {
    return open(onSilence);
  } catch (error) {
    deps.logger.error({ err: error, turn_id: turnId }, "the stream could not be opened");
    return null;
  }
};

/** Calls `leave` when the client goes before the end. */
const onClientGone = (
  metrics: Metrics,
  client: SseWriter,
  grammar: StreamGrammar,
  leave: () => void,
): void => {
  client.onClose(() => {
    if (grammar.ended) return;
    metrics.count("stream_disconnected", {
      stage: grammar.hasContent ? "mid_stream" : "before_first_token",
    });
    leave();
  });
};
