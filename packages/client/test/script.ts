/** One event as a server writes it; with a number when the turn can be resumed. */
export const frame = (name: string, data: object, id?: number): string =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

export const started = (requestId: string, id?: number): string =>
  frame("stream_started", { request_id: requestId, message_id: "m", is_new_turn: true }, id);

export const text = (content: string, id?: number): string => frame("delta", { type: "text", content }, id);

export const done = (id?: number): string =>
  frame(
    "done",
    { usage: null, effective_model: "standard", selected_model: "standard", quota_decision: "allow" },
    id,
  );

/** A stream of these frames that then ends, as if it were cut. */
export const stream = (...frames: readonly string[]): Response =>
  new Response(frames.join(""), { headers: { "content-type": "text/event-stream" } });

export const problem = (code: string, status: number): Response =>
  new Response(JSON.stringify({ code, status, detail: "" }), {
    status,
    headers: { "content-type": "application/problem+json" },
  });

export interface Script {
  readonly fetch: typeof fetch;
  /** What was asked, as `GET /path?query` below the chat. */
  readonly asked: string[];
}

/** A server that gives these answers in this order; the last one again and again. */
export const playScript = (
  ...answers: readonly ((init: RequestInit) => Response | Promise<Response>)[]
): Script => {
  const asked: string[] = [];
  return {
    asked,
    fetch: async (input, init = {}) => {
      const { pathname, search } = new URL(String(input));
      const answer = answers[Math.min(asked.length, answers.length - 1)];
      asked.push(`${init.method} ${pathname.replace(/^\/v1\/chats\/c/, "")}${decodeURIComponent(search)}`);
      if (answer === undefined) throw new TypeError("fetch failed");
      return answer(init);
    },
  };
};
