import { ApiError, isClientError } from "./errors.ts";
import type { TurnStatus } from "./generated/api.ts";
import { backoffMs, type Call, type Http, pause } from "./http.ts";
import { listen } from "./listen.ts";
import type { Message, Page, TurnResult, Uncertainty } from "./model.ts";
import { chatPath, turnPath } from "./paths.ts";
import {
  cancelled,
  completed,
  failed,
  interrupt,
  type Progress,
  replaceText,
  uncertain,
} from "./progress.ts";

/** A turn whose outcome is looked for. */
export interface Lost {
  readonly chatId: string;
  readonly progress: Progress;
  /** Finds the id of the new turn after a retry or edit was lost before it was told. */
  readonly locate?: ((signal: AbortSignal | undefined) => Promise<string | undefined>) | undefined;
  readonly signal: AbortSignal | undefined;
}

/** What one look at a turn shows. */
export type Sight =
  | { readonly result: TurnResult }
  | { readonly reason: Uncertainty; readonly cause: unknown; readonly final: boolean };

const unclear = (reason: Uncertainty, cause: unknown, final = false): Sight => ({ reason, cause, final });

/** Asks the status once and reads what it promises: the rest of the stream, or what is stored. */
export const look = async (http: Http, lost: Lost): Promise<Sight> => {
  const { chatId, progress, signal } = lost;
  try {
    progress.requestId ??= await lost.locate?.(signal);
    const { requestId } = progress;
    if (requestId === undefined) return unclear("not_found", undefined);
    const path = turnPath(chatId, requestId);
    const status = await http.json<TurnStatus>({ path, signal, attempts: 1 });
    return await readOutcome(http, lost, requestId, status);
  } catch (error) {
    signal?.throwIfAborted();
    // A token that cannot be had now, perhaps for want of a network.
    if (!isClientError(error)) return unclear("unreachable", error);
    if (error.code === "turn_not_found") return unclear("not_found", error);
    // What is neither ours nor passing will be said again: signed out, the chat deleted.
    const final = error instanceof ApiError && error.status < 500 && error.status !== 429;
    return unclear("unreachable", error, final);
  }
};

const readOutcome = async (http: Http, lost: Lost, requestId: string, status: TurnStatus): Promise<Sight> => {
  const { chatId, progress, signal } = lost;
  const { state, assistant_message_id: messageId } = status;
  if (state === "running") {
    if (progress.continues === false) return unclear("still_running", undefined);
    progress.recovered = "resumed";
    return (await playOn(http, lost, requestId)) ?? unclear("still_running", undefined);
  }
  progress.recovered = state === "done" && progress.seq !== "" ? "resumed" : "stored";
  if (state === "done") {
    const played = await playOn(http, lost, requestId);
    if (played !== null && "result" in played) return played;
    progress.recovered = "stored";
  }
  const message = messageId === undefined ? undefined : await readMessage(http, chatId, messageId, signal);
  if (message !== undefined) replaceText(progress, message.content);
  if (state === "error")
    return { result: failed(progress, requestId, status.error_code ?? "internal_error") };
  if (state === "cancelled") return { result: cancelled(progress, requestId, messageId) };
  return message === undefined
    ? unclear("removed", undefined, true)
    : { result: completed(progress, requestId, message.id, null) };
};

/** Reads the stream from where it broke (turns.md §16.2); null where the server does not offer it. */
const playOn = async (http: Http, lost: Lost, requestId: string): Promise<Sight | null> => {
  const { chatId, progress, signal } = lost;
  const call: Call = {
    path: `${turnPath(chatId, requestId)}/stream`,
    query: { after: progress.seq },
    signal,
  };
  try {
    const heard = await listen(http, call, progress, true);
    if ("result" in heard) return heard;
    interrupt(progress, heard.lost);
    return unclear("still_running", heard.lost);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.code === "not_resumable") progress.continues = false;
    return null;
  }
};

const readMessage = async (
  http: Http,
  chatId: string,
  messageId: string,
  signal: AbortSignal | undefined,
): Promise<Message | undefined> => {
  const page = await http.json<Page<Message>>({
    path: `${chatPath(chatId)}/messages`,
    query: { $filter: `id eq ${messageId}` },
    signal,
    attempts: 1,
  });
  return page.items[0];
};

// A stream that stayed open so long was alive, although it told nothing new.
const lastingMs = 1_000;

/**
 * Looks again and again, with growing pauses, until there is a result, or no sign of life for `recoverForMs`:
 * then the outcome is uncertain, and said to be.
 */
export const recover = async (http: Http, lost: Lost, cause: unknown): Promise<TurnResult> => {
  const { progress, signal } = lost;
  const { recoverForMs = 30_000 } = http.options;
  let until = Date.now() + recoverForMs;
  for (let attempt = 0; ; attempt += 1) {
    const { heard, opened } = progress;
    const from = Date.now();
    const sight = await look(http, lost);
    if ("result" in sight) return sight.result;
    const lasted = progress.opened > opened && Date.now() - from >= lastingMs;
    if (progress.heard > heard || lasted) {
      attempt = 0;
      until = Date.now() + recoverForMs;
    }
    const left = until - Date.now();
    if (left <= 0 || sight.final) return uncertain(progress, sight.reason, sight.cause ?? cause);
    await pause(Math.min(backoffMs(attempt), left), signal);
  }
};
