import { connect, type Socket } from "node:net";
import { afterEach } from "vitest";
import { SseReader } from "../../server/src/providers/sse.ts";
import { type Scenario, type Simulator, startSimulator } from "../src/index.ts";

const opened: { close(): Promise<void> | void }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

/** A simulator for this test, closed after it. */
export const simulatorFor = async (...scenarios: readonly Scenario[]): Promise<Simulator> => {
  const simulator = await startSimulator();
  opened.push(simulator);
  simulator.enqueue(...scenarios);
  return simulator;
};

const json = { "content-type": "application/json" };

export const post = (
  simulator: Simulator,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Response> =>
  fetch(simulator.url + path, {
    method: "POST",
    headers: { ...json, ...headers },
    body: JSON.stringify(body),
  });

/** Any request without a body; its JSON answer. */
export const send = async (
  simulator: Simulator,
  method: string,
  path: string,
): Promise<Record<string, unknown>> => {
  const response = await fetch(simulator.url + path, { method });
  return { status: response.status, ...object(await response.json()) };
};

export const object = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};

/** A value of parsed JSON, by the names and indexes on the way to it. */
export const at = (value: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce<unknown>((inner, key) => object(inner)[String(key)], value);

export const ask = (text: string, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  model: "m",
  stream: true,
  input: [{ type: "message", role: "user", content: [{ type: "input_text", text }] }],
  ...more,
});

export const allTools = [
  { type: "web_search", search_context_size: "low" },
  { type: "file_search", vector_store_ids: [] },
  { type: "code_interpreter", container: { type: "auto", file_ids: [] } },
];

export interface SseEvent {
  readonly name: string;
  readonly data: string;
}

/** Reads bytes with the server's own reader. */
export const readEvents = (bytes: Buffer | string): SseEvent[] => {
  const events: SseEvent[] = [];
  const reader = new SseReader((name, data) => events.push({ name, data }));
  reader.feed(Buffer.from(bytes));
  reader.end();
  return events;
};

/** The events of a Responses stream. */
export const stream = async (
  simulator: Simulator,
  text: string,
  more: Record<string, unknown> = {},
): Promise<SseEvent[]> => {
  const response = await post(simulator, "/v1/responses", ask(text, more));
  return readEvents(Buffer.from(await response.arrayBuffer()));
};

export const dataOf = (event: SseEvent | undefined): Record<string, unknown> =>
  object(JSON.parse(event?.data ?? "{}"));

export const textOf = (events: readonly SseEvent[]): string =>
  events
    .filter(({ name }) => name === "response.output_text.delta")
    .map((event) => String(dataOf(event)["delta"]))
    .join("");

/** The response object of the terminal event. */
export const finalOf = (events: readonly SseEvent[]): Record<string, unknown> =>
  object(dataOf(events.at(-1))["response"]);

/** A request on a bare socket, and everything that comes back, read by read. */
export interface RawCall {
  readonly socket: Socket;
  /** Resolves when the request is on its way. */
  readonly sent: Promise<void>;
  readonly reads: readonly { readonly at: number; readonly bytes: Buffer }[];
  /** Bytes received so far. */
  text(): string;
  /** Resolves when the text so far satisfies the predicate. */
  until(predicate: (text: string) => boolean): Promise<void>;
  /** Resolves when the connection is closed: with `reset` or `end`. */
  readonly closed: Promise<"reset" | "end">;
}

export const rawCall = (
  simulator: Simulator,
  body: unknown,
  options: { readonly omitBytes?: number } = {},
): RawCall => {
  const socket = connect({ port: simulator.port, host: "127.0.0.1", noDelay: true });
  opened.push({ close: () => void socket.destroy() });
  const reads: { at: number; bytes: Buffer }[] = [];
  const text = (): string => Buffer.concat(reads.map(({ bytes }) => bytes)).toString("latin1");
  let waiting: (() => void)[] = [];
  let error = "";
  socket.on("data", (bytes) => {
    reads.push({ at: performance.now(), bytes });
    for (const check of waiting) check();
  });
  socket.on("error", (problem: NodeJS.ErrnoException) => {
    error = problem.code ?? "";
  });
  const closed = new Promise<"reset" | "end">((resolve) =>
    socket.once("close", () => resolve(error === "ECONNRESET" ? "reset" : "end")),
  );
  const payload = JSON.stringify(body);
  const head = `POST /v1/responses HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(payload)}`;
  const bytes = Buffer.from(`${head}\r\n\r\n${payload}`);
  const sent = new Promise<void>((resolve) => {
    socket.write(bytes.subarray(0, bytes.length - (options.omitBytes ?? 0)), () => resolve());
  });
  const until = (predicate: (text: string) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (!predicate(text())) return;
        waiting = waiting.filter((other) => other !== check);
        resolve();
      };
      waiting.push(check);
      check();
    });
  return { socket, sent, reads, text, until, closed };
};

/** The HTTP chunks of a response on the wire; the last one may be cut off. */
export const chunksOf = (wire: string): string[] => {
  const chunks: string[] = [];
  let rest = wire.slice(wire.indexOf("\r\n\r\n") + 4);
  for (;;) {
    const lineEnd = rest.indexOf("\r\n");
    const size = Number.parseInt(rest.slice(0, lineEnd), 16);
    if (lineEnd === -1 || !(size > 0)) return chunks;
    chunks.push(rest.slice(lineEnd + 2, lineEnd + 2 + size));
    rest = rest.slice(lineEnd + 4 + size);
  }
};
