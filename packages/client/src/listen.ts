import { ApiError, ConnectionError, isClientError } from "./errors.ts";
import { type Call, createLimit, type Http, whileConnected } from "./http.ts";
import type { TurnResult } from "./model.ts";
import { type Progress, take } from "./progress.ts";
import { readSse } from "./sse.ts";

/** How one stream ended: with the turn's result, or without it. */
export type Heard = { readonly result: TurnResult } | { readonly lost: unknown };

/**
 * Reads one stream to its end or its loss; silence is a loss too. Throws the server's refusal and the reason
 * of the signal. `again` says that it is not the first stream of this turn.
 */
export const listen = async (http: Http, call: Call, progress: Progress, again: boolean): Promise<Heard> => {
  const silence = createLimit(
    http.options.silenceMs ?? 90_000,
    "nothing was heard for too long",
    call.signal,
  );
  try {
    const answer = await http.open(call, silence);
    const { body } = answer;
    if (body === null || !(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      await body?.cancel();
      return { lost: new ConnectionError("the answer is no stream", { answer }) };
    }
    progress.opened += 1;
    if (progress.broken) progress.emit({ type: "resumed", data: {} });
    progress.broken = false;
    return await whileConnected(silence.signal, () => hear(body, progress, again, silence.start));
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
