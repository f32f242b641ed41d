import type {
  RawEvent,
  ScenarioFailure,
  Terminal,
  ToolEvent,
  ToolName,
  Usage,
} from "../scenario/scenario.ts";

/** One event as it goes out: without a name only data, as some APIs send. */
export interface WireEvent {
  readonly name: string;
  /** JSON text, or whatever the scenario wants to be sent instead. */
  readonly data: string;
  /** Text deltas in it: 1 or 0. */
  readonly deltas: number;
}

/** How an answer ends, everything filled in. */
export interface Ending {
  readonly terminal: Terminal;
  /** Null: no usage is reported. */
  readonly usage: Usage | null;
  readonly citations: readonly Readonly<Record<string, unknown>>[];
  readonly error: Required<ScenarioFailure>;
  readonly incompleteReason: string;
}

/** One answer in the form of one API; keeps what its later events need of the earlier ones. */
export interface Format {
  /** Before the first event. */
  open(): WireEvent[];
  text(text: string): WireEvent[];
  reasoning(text: string): WireEvent[];
  tool(event: ToolEvent): WireEvent[];
  custom(event: RawEvent): WireEvent;
  end(ending: Ending): WireEvent[];
  /** The answer of a call that does not stream, made after all events were played into it. */
  whole(ending: Ending): { readonly status: number; readonly body: unknown };
}

/** What a format reads out of a request. */
export interface ReadRequest {
  readonly streams: boolean;
  readonly model: string;
  /** Of the last user message; "" when there is none. */
  readonly lastUserText: string;
  readonly messages: number;
  readonly offered: ReadonlySet<ToolName>;
}

/** An API the simulator plays. */
export interface Api {
  read(body: unknown): ReadRequest;
  /** `at` counts answers, for ids that are the same in every run. */
  format(request: ReadRequest, at: number): Format;
  /** The body of a plain error of this API. */
  failure(status: number, message: string): unknown;
}
