import type {
  Chat,
  CitationsEvent,
  DeltaEvent,
  DoneEvent,
  ErrorEvent,
  ExportedMessage,
  Operations,
  PingEvent,
  StreamStartedEvent,
  ToolEvent,
} from "./generated/api.ts";

type ItemOf<Name extends "listChats" | "listMessages" | "searchChats"> =
  Operations[Name]["response"]["items"][number];

type Always<T, Key extends keyof T> = T & { readonly [K in Key]-?: Exclude<T[K], undefined> };

/** A message as it is listed (api.md §3.2). */
export type Message = Omit<ExportedMessage, "citations">;
export type Citation = CitationsEvent["items"][number];
export type SearchHit = Always<
  ItemOf<"searchChats">,
  "kind" | "chat_id" | "created_at" | "excerpt" | "highlights"
>;
export type PageInfo = Operations["listChats"]["response"]["page_info"];

export interface Page<T> {
  readonly items: readonly T[];
  readonly page_info: PageInfo;
}

/** What may be asked of a list (api.md §4); `select` narrows the items to the named fields. */
export interface ListQuery<T, Key extends keyof T = keyof T> {
  /** Items per page, 1 to 100; the server's default is 20. */
  readonly limit?: number | undefined;
  /** `next_cursor` or `prev_cursor` of another page of the same list. */
  readonly cursor?: string | undefined;
  /** `$filter`, for example `role eq 'assistant'`. */
  readonly filter?: string | undefined;
  /** `$orderby`, for example `created_at desc`. */
  readonly orderby?: string | undefined;
  readonly select?: readonly Key[] | undefined;
}

export type ChatQuery<Key extends keyof Chat = keyof Chat> = ListQuery<Chat, Key>;
export type MessageQuery<Key extends keyof Message = keyof Message> = ListQuery<Message, Key>;

/** What the server sends in a stream, in the order of turns.md §5.3. */
export type ServerEvent =
  | { readonly type: "stream_started"; readonly data: StreamStartedEvent }
  | { readonly type: "ping"; readonly data: PingEvent }
  | { readonly type: "delta"; readonly data: DeltaEvent }
  | { readonly type: "tool"; readonly data: ToolEvent }
  | { readonly type: "citations"; readonly data: CitationsEvent }
  | { readonly type: "done"; readonly data: DoneEvent }
  | { readonly type: "error"; readonly data: ErrorEvent };

/** What the client adds when a connection breaks. */
export type RecoveryEvent =
  /** The connection is lost; the client asks how the turn stands. */
  | { readonly type: "interrupted"; readonly data: { readonly cause: unknown } }
  /** The stream goes on where it broke. */
  | { readonly type: "resumed"; readonly data: Readonly<Record<string, never>> }
  /** The stored answer was read: `text` takes the place of all text so far. */
  | { readonly type: "replaced"; readonly data: { readonly text: string } };

export type TurnEvent = ServerEvent | RecoveryEvent;

/**
 * How the result was come by when not by one unbroken stream: `replayed`, the turn of this `request_id` was
 * complete already; `resumed`, the stream broke and went on; `stored`, it broke and the outcome was read.
 */
export type Recovered = "replayed" | "resumed" | "stored";

/** Why the outcome is not known. */
export type Uncertainty =
  /** The server does not know the turn: the request did not arrive, or not yet. */
  | "not_found"
  /** It was still running when the client stopped waiting; `turns.resume` looks again. */
  | "still_running"
  /** It completed, but was deleted or replaced before its answer could be read. */
  | "removed"
  /** The server could not be asked. */
  | "unreachable";

interface Ended {
  /** The text of the answer as far as it is known. */
  readonly text: string;
  readonly citations: readonly Citation[];
  readonly recovered?: Recovered;
}

export interface CompletedTurn extends Ended {
  readonly state: "completed";
  readonly requestId: string;
  readonly messageId: string;
  /** Usage, model, quota warnings; null when the answer was read from the list of messages. */
  readonly done: DoneEvent | null;
}

export interface FailedTurn extends Ended {
  readonly state: "failed";
  readonly requestId: string;
  /** A code of api.md §5.3; the text that came before it is not stored. */
  readonly code: string;
  /** For humans; only when the stream told it. */
  readonly message?: string;
}

export interface CancelledTurn extends Ended {
  readonly state: "cancelled";
  readonly requestId: string;
  /** The partial answer, when there was text to keep. */
  readonly messageId?: string;
}

export interface UncertainTurn extends Ended {
  readonly state: "uncertain";
  /** Undefined for a retry or edit that was lost before the server told the id of the new turn. */
  readonly requestId: string | undefined;
  readonly reason: Uncertainty;
  readonly cause: unknown;
}

export type TurnResult = CompletedTurn | FailedTurn | CancelledTurn | UncertainTurn;
