import type { Operations, SendMessage, TurnEdit, TurnStatus } from "./generated/api.ts";
import type { CallOptions, Http } from "./http.ts";
import { findSuccessor } from "./locate.ts";
import { chatPath, turnPath } from "./paths.ts";
import { type IdentifiedTurn, startTurn, type Turn } from "./turn.ts";

export interface MutationOptions extends CallOptions {
  /** `updated_at` of the turn as last seen; refused as `not_latest_turn` if it changed since. */
  readonly if_turn_updated_at?: string | undefined;
}

export interface RetryOptions extends MutationOptions {
  readonly on_disconnect?: Operations["retryTurn"]["query"]["on_disconnect"];
}

export interface Turns {
  status(chatId: string, requestId: string, options?: CallOptions): Promise<TurnStatus>;
  /** Another answer to the same question; the latest turn is replaced by a new one. */
  retry(chatId: string, requestId: string, options?: RetryOptions): Turn;
  /** Another question in its place. */
  edit(chatId: string, requestId: string, edit: TurnEdit, options?: MutationOptions): Turn;
  /** Takes the latest turn back, question and answer. */
  remove(chatId: string, requestId: string, options?: MutationOptions): Promise<void>;
  /** Stops a running answer; the status is still `running` if that takes longer than 2 s. */
  cancel(chatId: string, requestId: string, options?: CallOptions): Promise<TurnStatus>;
  /**
   * Follows a turn that was begun elsewhere, or before a reload, from its first event. A turn that was not
   * opened with `on_disconnect: "continue"` is waited for; its result then is what is stored.
   */
  resume(chatId: string, requestId: string, options?: CallOptions): IdentifiedTurn;
}

/** As `crypto.randomUUID`, which browsers keep from pages that did not come over TLS. */
export const randomId = (): string => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte, at) => {
    const value = at === 6 ? (byte & 0x0f) | 0x40 : at === 8 ? (byte & 0x3f) | 0x80 : byte;
    return value.toString(16).padStart(2, "0");
  });
  return hex.join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
};

const withId = (turn: Turn, requestId: string): IdentifiedTurn =>
  Object.defineProperty(turn, "requestId", { value: requestId }) as IdentifiedTurn;

/** Sends a message; the `request_id` is made here when the caller has none. */
export const send = (
  http: Http,
  chatId: string,
  message: SendMessage,
  { signal }: CallOptions = {},
): IdentifiedTurn => {
  const requestId = message.request_id ?? randomId();
  const turn = startTurn(http, {
    chatId,
    requestId,
    begin: {
      method: "POST",
      path: `${chatPath(chatId)}/messages:stream`,
      body: { ...message, request_id: requestId },
    },
    freshId: message.request_id === undefined,
    continues: message.on_disconnect === "continue",
    signal,
  });
  return withId(turn, requestId);
};

export const createTurns = (http: Http): Turns => ({
  status: (chatId, requestId, { signal } = {}) => http.json({ path: turnPath(chatId, requestId), signal }),
  retry: (chatId, requestId, { signal, ...query } = {}) =>
    startTurn(http, {
      chatId,
      requestId: undefined,
      begin: { method: "POST", path: `${turnPath(chatId, requestId)}/retry`, query: { ...query } },
      continues: query.on_disconnect === "continue",
      locate: (signal) => findSuccessor(http, { chatId, requestId }, signal),
      signal,
    }),
  edit: (chatId, requestId, edit, { signal, ...query } = {}) =>
    startTurn(http, {
      chatId,
      requestId: undefined,
      begin: { method: "PATCH", path: turnPath(chatId, requestId), query: { ...query }, body: edit },
      continues: edit.on_disconnect === "continue",
      locate: (signal) => findSuccessor(http, { chatId, requestId, content: edit.content }, signal),
      signal,
    }),
  remove: (chatId, requestId, { signal, ...query } = {}) =>
    http.done({ method: "DELETE", path: turnPath(chatId, requestId), query: { ...query }, signal }),
  cancel: (chatId, requestId, { signal } = {}) =>
    http.json({ method: "POST", path: `${turnPath(chatId, requestId)}/cancel`, signal }),
  resume: (chatId, requestId, { signal } = {}) =>
    withId(startTurn(http, { chatId, requestId, begin: null, continues: undefined, signal }), requestId),
});
