import type { WireEvent } from "../formats/format.ts";
import type { Malformation, Scenario } from "../scenario/scenario.ts";

/** Turns one event into its bytes; `spoilt` is the one whose content is broken, if any is to be. */
export type Encode = (event: WireEvent, spoilt: boolean) => string | Buffer;

/** A byte that occurs in no UTF-8 text. */
const NO_UTF8 = 0xff;

const UNKNOWN_NAME = "response.simulated_unknown";

export const encoderOf = (scenario: Scenario): Encode => {
  const { malformed } = scenario;
  if (malformed === undefined) return frame;
  const kinds = new Set<Malformation>(typeof malformed === "string" ? [malformed] : malformed);
  const encodeOne = (event: WireEvent, spoilt: boolean): string => {
    const cut = spoilt && kinds.has("broken_json");
    let text = frame(cut ? { ...event, data: event.data.slice(0, event.data.length >> 1) } : event);
    if (kinds.has("missing_blank_line")) text = text.slice(0, -1);
    return kinds.has("crlf") ? text.replaceAll("\n", "\r\n") : text;
  };
  return (event, spoilt) => {
    const text = encodeOne(event, spoilt);
    const all = kinds.has("unknown_events") ? encodeOne(unknownEvent(event), false) + text : text;
    return spoilt && kinds.has("invalid_utf8") ? withBadByte(all) : all;
  };
};

const frame = ({ name, data }: WireEvent): string => {
  const lines = data.includes("\n") ? data.replaceAll("\n", "\ndata: ") : data;
  return name === "" ? `data: ${lines}\n\n` : `event: ${name}\ndata: ${lines}\n\n`;
};

// A named event tells at once that it is unknown, so its data need not be JSON; an unnamed one is read.
const unknownEvent = ({ name }: WireEvent): WireEvent =>
  name === ""
    ? { name: "", data: '{"object":"simulated.unknown"}', deltas: 0 }
    : { name: UNKNOWN_NAME, data: '{"unfinished":', deltas: 0 };

const withBadByte = (text: string): Buffer => {
  const bytes = Buffer.from(text);
  // Before the line end, and so inside the data.
  const at = bytes.lastIndexOf("}");
  bytes[at === -1 ? bytes.length >> 1 : at - 1] = NO_UTF8;
  return bytes;
};
