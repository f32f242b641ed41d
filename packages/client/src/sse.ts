/** One event off the wire; `id` only on turns that can be resumed. */
export interface WireEvent {
  readonly name: string;
  readonly data: string;
  readonly id: string | undefined;
}

/**
 * Splits a text/event-stream into events, whatever the pieces it comes in and the line ends it uses; lines
 * that start with a colon are keep-alives. `push` returns the events a piece completes.
 */
export const createSseParser = (): { push(text: string): WireEvent[] } => {
  let line = "";
  let afterReturn = false;
  let name = "";
  let data: string[] = [];
  let id: string | undefined;

  const endLine = (events: WireEvent[]): void => {
    if (line === "") {
      if (data.length > 0) events.push({ name: name === "" ? "message" : name, data: data.join("\n"), id });
      name = "";
      data = [];
      id = undefined;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    line = "";
    if (field === "event") name = value;
    else if (field === "data") data.push(value);
    else if (field === "id") id = value;
  };

  return {
    push: (text) => {
      const events: WireEvent[] = [];
      let from = afterReturn && text.startsWith("\n") ? 1 : 0;
      if (text !== "") afterReturn = false;
      for (const end of text.matchAll(/\r\n|\r|\n/g)) {
        if (end.index < from) continue;
        line += text.slice(from, end.index);
        from = end.index + end[0].length;
        endLine(events);
        afterReturn = end[0] === "\r" && from === text.length;
      }
      line += text.slice(from);
      return events;
    },
  };
};

/** The events of a body as they come; `onBytes` at every sign of life. Leaving the loop closes the connection. */
export async function* readSse(
  body: ReadableStream<Uint8Array>,
  onBytes: () => void,
): AsyncGenerator<WireEvent, void> {
  const parser = createSseParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
