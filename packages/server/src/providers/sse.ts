import { isUtf8 } from "node:buffer";

/** The bytes are no usable event stream. The message is ours and safe to show. */
export class SseError extends Error {
  override name = "SseError";
}

/** Events above this many bytes, line ends counted once, fail the stream (providers.md §5). */
export const MAX_EVENT_BYTES = 1_048_576;

/** Reads server-sent events out of arbitrarily cut bytes. */
export interface SseReader {
  /** Takes the next bytes in; every event completed by them is reported. Throws `SseError`. */
  feed(bytes: Buffer): void;
  /** The stream ended: reports a last event without its blank line. Throws `SseError`. */
  end(): void;
}

const LF = 10;
const CR = 13;
const SPACE = 32;
const COLON = 58;
const LOWER_D = 100;
const LOWER_E = 101;
const BOM = 0xfeff;
const BOM_BYTES = 3;
const NOTHING = Buffer.alloc(0);
const LINE_FEED = Buffer.from("\n");
const REPLACEMENT = "\ufffd";

/**
 * A reader that reports each event as its `event` name ("" when it has none) and its `data`
 * (providers.md §5): CRLF, CR and LF, comments, data of several lines, a byte order mark, text cut
 * inside a character, a last event without a blank line, and an `event:` line that begins the next
 * event although the blank line is missing. Fails on invalid UTF-8 and on events that are too big.
 *
 * Own code because the kept parsers end events only at blank lines, and decode before they cut.
 * Bytes are cut at the last line end and decoded once per read, so no character is ever split.
 */
export function createSseReader(
  onEvent: (name: string, data: string) => void,
  maxEventBytes: number = MAX_EVENT_BYTES,
): SseReader {
  /** The line that has not ended yet: the first `tailLength` bytes of `tail`. */
  let tail = NOTHING;
  let tailLength = 0;
  let skipLineFeed = false;
  let atStart = true;
  let name = "";
  let data: string | null = null;
  /** Bytes of the event under way in the lines read so far. */
  let carried = 0;

  const dispatch = (): void => {
    const eventName = name;
    const eventData = data;
    name = "";
    data = null;
    carried = 0;
    if (eventData !== null) onEvent(eventName, eventData);
  };

  /** One line of `text`; true when an event ended with it or before it. */
  const takeLine = (text: string, start: number, end: number): boolean => {
    if (start === end) {
      dispatch();
      return true;
    }
    const first = text.charCodeAt(start);
    if (first === LOWER_D && isField(text, "data", start, end)) {
      const value = text.slice(valueStart(text, start + 4, end), end);
      data = data === null ? value : `${data}\n${value}`;
    } else if (first === LOWER_E && isField(text, "event", start, end)) {
      const startsNext = data !== null;
      if (startsNext) dispatch();
      name = text.slice(valueStart(text, start + 5, end), end);
      return startsNext;
    }
    return false;
  };

  /** Complete lines, each with its line feed, small enough that no event can be too big. */
  const takeLines = (text: string): void => {
    let eventFrom = 0;
    let start = 0;
    while (start < text.length) {
      const end = text.indexOf("\n", start);
      const idle = data === null && name === "";
      if (takeLine(text, start, end) || idle) eventFrom = start;
      start = end + 1;
    }
    if (data !== null || name !== "") carried += Buffer.byteLength(text.slice(eventFrom));
  };

  /** As `takeLines`, weighing every line. */
  const weighLines = (text: string): void => {
    let start = 0;
    while (start < text.length) {
      const end = text.indexOf("\n", start);
      const bytes = Buffer.byteLength(text.slice(start, end));
      if (bytes > 0 && carried + bytes > maxEventBytes) throw tooBig();
      takeLine(text, start, end);
      if (data !== null || name !== "") carried += bytes + 1;
      start = end + 1;
    }
  };

  const takeBlock = (block: Buffer): void => {
    let text = block.toString("utf8");
    // What cannot be decoded becomes U+FFFD, which may also have been sent.
    if (text.includes(REPLACEMENT) && !isUtf8(block)) {
      const bad = firstInvalidLine(block);
      if (bad.start > 0) takeBlock(block.subarray(0, bad.start));
      if (carried + bad.end - bad.start > maxEventBytes) throw tooBig();
      throw new SseError("the provider sent invalid UTF-8");
    }
    if (atStart) {
      atStart = false;
      if (text.charCodeAt(0) === BOM) {
        text = text.slice(1);
        carried = BOM_BYTES;
      }
    }
    const hasCarriageReturn = text.includes("\r");
    if (hasCarriageReturn) text = text.replace(/\r\n?/g, "\n");
    if (hasCarriageReturn || carried + block.length > maxEventBytes) weighLines(text);
    else takeLines(text);
  };

  // A copy: `rest` is a view that would keep the whole read alive while the stream is silent. It
  // grows by doubling, so that a long line that comes byte by byte costs no more than its length.
  const keepTail = (rest: Buffer): void => {
    const length = tailLength + rest.length;
    if (carried + length > maxEventBytes) throw tooBig();
    if (length > tail.length) {
      const bigger = Buffer.allocUnsafeSlow(Math.max(256, 2 * tail.length, length));
      tail.copy(bigger, 0, 0, tailLength);
      tail = bigger;
    }
    rest.copy(tail, tailLength);
    tailLength = length;
  };

  /** The kept tail with `more` behind it, which ends its line. */
  const withTail = (more: Buffer): Buffer => {
    if (tailLength === 0) return more;
    const block = Buffer.concat([tail.subarray(0, tailLength), more]);
    tail = NOTHING;
    tailLength = 0;
    return block;
  };

  return {
    feed: (bytes) => {
      let chunk = bytes;
      if (chunk.length === 0) return;
      if (skipLineFeed) {
        skipLineFeed = false;
        if (chunk[0] === LF) chunk = chunk.subarray(1);
      }
      const end = lastLineEnd(chunk);
      if (end === -1) {
        if (chunk.length > 0) keepTail(chunk);
        return;
      }
      const whole = end + 1 === chunk.length;
      skipLineFeed = whole && chunk[end] === CR;
      takeBlock(withTail(whole ? chunk : chunk.subarray(0, end + 1)));
      if (!whole) keepTail(chunk.subarray(end + 1));
    },
    end: () => {
      if (tailLength > 0) takeBlock(withTail(LINE_FEED));
      dispatch();
    },
  };
}

const tooBig = (): SseError => new SseError("the provider sent an event that is too big");

/** Index of the last line end; -1 when there is none. Reads nearly always end with one. */
const lastLineEnd = (chunk: Buffer): number => {
  const last = chunk.length - 1;
  return chunk[last] === LF ? last : Math.max(chunk.lastIndexOf(LF), chunk.lastIndexOf(CR));
};

/** Whether the line is the field `field`: the name, then a colon or nothing. */
const isField = (text: string, field: string, start: number, end: number): boolean => {
  if (!text.startsWith(field, start)) return false;
  const after = start + field.length;
  return after === end || text.charCodeAt(after) === COLON;
};

/** Where a value begins, given where its field name ended: after the colon and one space. */
const valueStart = (text: string, nameEnd: number, end: number): number =>
  nameEnd === end ? end : text.charCodeAt(nameEnd + 1) === SPACE ? nameEnd + 2 : nameEnd + 1;

/** The first line that is not UTF-8, without its end. */
const firstInvalidLine = (block: Buffer): { readonly start: number; readonly end: number } => {
  let start = 0;
  for (let at = 0; at < block.length; at += 1) {
    if (block[at] !== LF && block[at] !== CR) continue;
    if (!isUtf8(block.subarray(start, at))) return { start, end: at };
    start = at + 1;
  }
  return { start, end: block.length };
};
