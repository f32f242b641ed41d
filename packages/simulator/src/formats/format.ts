import type { RawEvent, Terminal, ToolEvent, Usage } from "../scenario/scenario.ts";

/** One server-sent event; a name of "" sends none. */
export interface WireEvent {
  readonly name: string;
  readonly data: string;
  /** How many deltas this is: 0 or 1. */
  readonly deltas: number;
}

/** What an answer is made of from the start. */
export interface Answer {
  /** `resp_mock_{n}` */
  readonly id: string;
  readonly model: string;
  /** null: no usage is reported. */
  readonly usage: Usage | null;
  /** Whether the request asked for usage, where an API has to be asked. */
  readonly usageWanted: boolean;
}

export interface Ending {
  readonly terminal: Terminal;
  readonly citations: readonly Readonly<Record<string, unknown>>[];
  readonly error: { readonly code: string; readonly message: string };
  readonly incompleteReason: string;
}

/** Writes one answer in the form of one API. It remembers the answer, so each is for one use, in order. */
export interface Format {
  /** What comes before everything. */
  open(): readonly WireEvent[];
  text(content: string): readonly WireEvent[];
  reasoning(content: string): readonly WireEvent[];
  tool(event: ToolEvent): readonly WireEvent[];
  custom(event: RawEvent): WireEvent;
  /** From the last event to the terminal one, which is the last of the list; not called for `none`. */
  end(ending: Ending): readonly WireEvent[];
  /** The whole answer for a request that does not stream. */
  whole(ending: Ending): unknown;
}

/** A raw event with its `type` filled in. */
export const customEvent = (event: RawEvent): WireEvent => {
  const { event: name, data } = event;
  if (typeof data === "string") return { name, data, deltas: 0 };
  const typed = name === "" ? data : { type: name, ...data };
  return { name, data: JSON.stringify(typed ?? {}), deltas: 0 };
};

/** Answers are the same at every run, so all were created at one time. */
export const CREATED_AT = 1_760_000_000;
