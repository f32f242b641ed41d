/** One programmed answer (providers.md §11.3). Every field is optional; `{}` answers with no text. */
export interface Scenario {
  /** For people: shown with the captured request. */
  readonly name?: string;
  /** What is sent before the terminal event, in order. */
  readonly events?: readonly ScenarioEvent[];
  /** Default: `failed` with `error`, `incomplete` with `incomplete_reason`, else `completed`. */
  readonly terminal?: Terminal;
  /** Counters left out: input 50 × input messages, output 12, the rest 0. `absent` sends no usage at all. */
  readonly usage?: Partial<Usage> | "zero" | "absent";
  /** Annotations of the final text, as the provider writes them; placeholders are filled in. */
  readonly citations?: readonly Readonly<Record<string, unknown>>[];
  readonly error?: ScenarioFailure;
  /** The provider's own word. Default `max_output_tokens`. */
  readonly incomplete_reason?: string;
  /** With this or `http_body` the answer is a plain response and plays no events. */
  readonly http_status?: number;
  /** A string is sent as it is, anything else as JSON. Default: an error object of the provider. */
  readonly http_body?: unknown;
  /** Further response headers, also of a stream. */
  readonly headers?: Readonly<Record<string, string>>;
  /** The whole answer, headers included, waits until this gate is open. */
  readonly gate?: string;
  /** Before the request is read. A scenario chosen by text waits after reading, since it needs the text. */
  readonly accept_delay_ms?: number;
  readonly header_delay_ms?: number;
  /** Between two events; an event's own `delay_ms` takes its place. */
  readonly event_delay_ms?: number;
  /** After so many events: silence, with the connection open. */
  readonly hang_after?: number;
  /** After so many events, or bytes of the body: a TCP reset. A number means events. */
  readonly drop_after?: number | { readonly events: number } | { readonly bytes: number };
  /** One byte of the body per interval. A number means ms. */
  readonly slow_loris?: number | { readonly interval_ms: number };
  /**
   * How the body is cut into writes. Default: as few as possible. `random` alone means seed 1; equal
   * seeds cut equally.
   */
  readonly chunking?: "event" | "byte" | "random" | { readonly random: number };
  readonly malformed?: Malformation | readonly Malformation[];
  /** Sent after the terminal event. */
  readonly trailing_events?: readonly ScenarioEvent[];
  /** After `events`: `count` text deltas of `bytes` characters each, one per interval (0: all at once). */
  readonly repeat?: { readonly count: number; readonly bytes: number; readonly interval_ms?: number };
  /**
   * When the client closed is recorded in any case. `stop` (default) ends the scenario then; `continue`
   * plays on into the void and counts the deltas as sent after the abort.
   */
  readonly on_abort?: "stop" | "continue";
}

export const terminals = ["completed", "failed", "incomplete", "none"] as const;
export type Terminal = (typeof terminals)[number];

export const toolNames = ["web_search", "file_search", "code_interpreter"] as const;
export type ToolName = (typeof toolNames)[number];

/** What can be wrong with the bytes of a stream. */
export const malformations = [
  /** The JSON of the last text delta (without one: of the terminal event) is cut in the middle. */
  "broken_json",
  /** The same event holds a byte that is no UTF-8. */
  "invalid_utf8",
  /** No blank line between events. */
  "missing_blank_line",
  "crlf",
  /** An event nobody knows comes before every event. */
  "unknown_events",
] as const;
export type Malformation = (typeof malformations)[number];

export interface Usage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  /** Part of the input. */
  readonly cache_read_input_tokens: number;
  /** Part of the input. */
  readonly cache_write_input_tokens: number;
  /** Part of the output. */
  readonly reasoning_tokens: number;
}

export interface ScenarioFailure {
  readonly code?: string;
  readonly message?: string;
}

interface Delayed {
  /** Before this event. */
  readonly delay_ms?: number;
}

/** Sent in the form of the API that was called; left out when the request does not offer the tool. */
export interface ToolEvent extends Delayed {
  readonly tool: ToolName;
  readonly phase: "start" | "progress" | "done";
  /** Of a finished file search. */
  readonly results?: readonly Readonly<Record<string, unknown>>[];
  /** Of a finished code interpreter call. */
  readonly outputs?: readonly Readonly<Record<string, unknown>>[];
}

/** A provider event word for word. An object gets `type`, unless it has one; a string is sent as it is. */
export interface RawEvent extends Delayed {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>> | string;
}

export type ScenarioEvent =
  | ({ readonly text: string } & Delayed)
  | ({ readonly reasoning: string } & Delayed)
  | ToolEvent
  | RawEvent
  /** Bytes for the body, outside of any event. */
  | ({ readonly raw: string } & Delayed)
  /** Pauses until the gate is open. No event of its own: nothing is counted or sent. */
  | ({ readonly wait_for: string } & Delayed);

/** How the answer ends when nothing says otherwise. */
export const terminalOf = (scenario: Scenario): Terminal => {
  if (scenario.terminal !== undefined) return scenario.terminal;
  if (scenario.error !== undefined) return "failed";
  return scenario.incomplete_reason === undefined ? "completed" : "incomplete";
};

export const isPlain = (scenario: Scenario): boolean =>
  scenario.http_status !== undefined || scenario.http_body !== undefined;
