import type { DoneEvent } from "./generated/api.ts";
import type { Citation, Recovered, ServerEvent, TurnEvent, TurnResult } from "./model.ts";
import type { WireEvent } from "./sse.ts";

/** What is known of a turn while it is followed, over however many connections. */
export interface Progress {
  requestId: string | undefined;
  messageId: string | undefined;
  text: string;
  citations: readonly Citation[];
  /** Number of the last event of a turn that can be resumed; empty before the first. */
  seq: string;
  started: boolean;
  /** Whether the turn goes on without a reader; undefined when not known. */
  continues: boolean | undefined;
  /** Readers were told of an interruption, and not yet that it is over. */
  broken: boolean;
  /** New events and opened streams so far, on all connections: whether there are signs of life. */
  heard: number;
  opened: number;
  recovered: Recovered | undefined;
  readonly emit: (event: TurnEvent) => void;
}

const names: ReadonlySet<string> = new Set<ServerEvent["type"]>([
  "stream_started",
  "ping",
  "delta",
  "tool",
  "citations",
  "done",
  "error",
]);

/** Null for an event of a newer server (api.md §10). Throws on what is no JSON. */
const parse = ({ name, data }: WireEvent): ServerEvent | null => {
  if (!names.has(name)) return null;
  return { type: name, data: JSON.parse(data) } as ServerEvent;
};

/** Whether the event came before; the end of a stream comes as often as it is asked for. */
const isKnown = ({ seq }: Progress, { id, name }: WireEvent): boolean =>
  id !== undefined && seq !== "" && Number(id) <= Number(seq) && name !== "done" && name !== "error";

const shared = ({ text, citations, recovered }: Progress) => ({
  text,
  citations,
  ...(recovered === undefined ? {} : { recovered }),
});

export const completed = (
  progress: Progress,
  requestId: string,
  messageId: string,
  done: DoneEvent | null,
): TurnResult => ({ state: "completed", requestId, messageId, done, ...shared(progress) });

export const failed = (
  progress: Progress,
  requestId: string,
  code: string,
  message?: string,
): TurnResult => ({
  state: "failed",
  requestId,
  code,
  ...(message === undefined ? {} : { message }),
  ...shared(progress),
});

export const cancelled = (
  progress: Progress,
  requestId: string,
  messageId: string | undefined,
): TurnResult => ({
  state: "cancelled",
  requestId,
  ...(messageId === undefined ? {} : { messageId }),
  ...shared(progress),
});

export const uncertain = (
  progress: Progress,
  reason: Extract<TurnResult, { state: "uncertain" }>["reason"],
  cause: unknown,
): TurnResult => ({ state: "uncertain", requestId: progress.requestId, reason, cause, ...shared(progress) });

/** Makes `text` the whole answer; readers are told when it is not what they have. */
export const replaceText = (progress: Progress, text: string): void => {
  if (progress.text === text) return;
  progress.text = text;
  progress.emit({ type: "replaced", data: { text } });
};

export const interrupt = (progress: Progress, cause: unknown): void => {
  if (!progress.broken) progress.emit({ type: "interrupted", data: { cause } });
  progress.broken = true;
};

/** The ends after which the database alone knows what became of the turn (turns.md §5.3, §10.3). */
const untold: readonly string[] = ["stream_interrupted", "finalization_failed"];

/**
 * Takes one event off the wire; the result once it is the last one. Null for all others, "lost" when the
 * server itself lost sight of the turn.
 */
export const take = (progress: Progress, wire: WireEvent, again: boolean): TurnResult | "lost" | null => {
  const event = parse(wire);
  if (event === null || isKnown(progress, wire)) return null;
  if (wire.id !== undefined) progress.seq = wire.id;
  if (event.type === "stream_started") {
    const known = progress.started;
    progress.started = true;
    progress.requestId = event.data.request_id;
    progress.messageId = event.data.message_id;
    if (!event.data.is_new_turn && !again) progress.recovered = "replayed";
    if (!known) progress.emit(event);
    return null;
  }
  if (event.type !== "ping") progress.heard += 1;
  if (event.type === "delta" && event.data.type === "text") {
    // Played from the message, not from the log: no numbers, and the whole text in one piece (turns.md §6).
    if (again && wire.id === undefined && progress.text !== "") {
      replaceText(progress, event.data.content);
      return null;
    }
    progress.text += event.data.content;
  }
  if (event.type === "citations") progress.citations = event.data.items;
  if (event.type === "error" && untold.includes(event.data.code)) return "lost";
  progress.emit(event);
  return resultOf(progress, event);
};

const resultOf = (progress: Progress, event: ServerEvent): TurnResult | "lost" | null => {
  if (event.type !== "done" && event.type !== "error") return null;
  const { requestId, messageId, text } = progress;
  if (requestId === undefined) return "lost";
  if (event.type === "done") {
    return messageId === undefined ? "lost" : completed(progress, requestId, messageId, event.data);
  }
  return event.data.code === "cancelled"
    ? cancelled(progress, requestId, text === "" ? undefined : messageId)
    : failed(progress, requestId, event.data.code, event.data.message);
};
