import { ApiError, ConnectionError, isClientError } from "./errors.ts";
import { type Call, type Http, whileConnected } from "./http.ts";
import type { TurnResult } from "./model.ts";
import { type Progress, take } from "./progress.ts";
import { readSse } from "./sse.ts";

/** How one stream ended: with the turn's result, or without it. */
export type Heard = { readonly result: TurnResult } | { readonly lost: unknown };

/** Calls back after so much silence; `heard` starts the time anew. */
const watchSilence = (ms: number, onSilence: () => void): { heard(): void; stop(): void } => {
  let timer = setTimeout(onSilence, ms);
  const stop = (): void => clearTimeout(timer);
  return {
    stop,
    heard: () => {
      stop();
      timer = setTimeout(onSilence, ms);
    },
  };
};

/**
 * Reads one stream to its end or its loss; silence is a loss too. Throws the server's refusal and the reason
 * of the signal. `again` says that it is not the first stream of this turn.
 */
export const listen = async (http: Http, call: Call, progress: Progress, again: boolean): Promise<Heard> => {
  const quiet = new AbortController();
  const silence = watchSilence(http.options.silenceMs ?? 90_000, () =>
    quiet.abort(new ConnectionError("nothing was heard for too long")),
  );
  const signal = call.signal === undefined ? quiet.signal : AbortSignal.any([call.signal, quiet.signal]);
  try {
    const answer = await http.open({ ...call, signal });
    const { body } = answer;
    if (body === null || !(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      await body?.cancel();
      return { lost: new ConnectionError("the answer is no stream", { answer }) };
    }
    progress.opened += 1;
    if (progress.broken) progress.emit({ type: "resumed", data: {} });
    progress.broken = false;
    return await whileConnected(signal, () => hear(body, progress, again, silence.heard));
  } catch (error) {
    if (error instanceof ApiError || !isClientError(error)) throw error;
    return { lost: error };
  } finally {
    silence.stop();
  }
};

const hear = async (
  body: ReadableStream<Uint8Array>,
  progress: Progress,
  again: boolean,
  onBytes: () => void,
): Promise<Heard> => {
  for await (const event of readSse(body, onBytes)) {
    const end = take(progress, event, again);
    if (end === "lost") return { lost: new ConnectionError("the server lost sight of the turn") };
    if (end !== null) return { result: end };
  }
  return { lost: new ConnectionError("the stream ended early") };
};
