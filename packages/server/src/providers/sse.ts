import { isUtf8 } from "node:buffer";

/** The bytes are no usable event stream. The message is ours and safe to show. */
export class SseError extends Error {
  override name = "SseError";
}

/** Events above this many bytes, line ends counted once, fail the stream (providers.md §5). */
export const MAX_EVENT_BYTES = 1_048_576;

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
 * Reads server-sent events out of arbitrarily cut bytes and reports each as its `event` name ("" when
 * it has none) and its `data` (providers.md §5): CRLF, CR and LF, comments, data of several lines, a
 * byte order mark, text cut inside a character, a last event without a blank line, and an `event:`
 * line that begins the next event although the blank line is missing. Fails with `SseError` on
 * invalid UTF-8 and on events that are too big, at the same place however the bytes are cut.
 *
 * Own code because the kept parsers end events only at blank lines (docs/decisions/0005). Bytes are
 * cut at the last line end and decoded once per read, so no character is ever split.
 */
export class SseReader {
  readonly #onEvent: (name: string, data: string) => void;
  readonly #maxEventBytes: number;
  /** The line that has not ended yet: the first `#tailLength` bytes of `#tail`. */
  #tail = NOTHING;
  #tailLength = 0;
  #skipLineFeed = false;
  #atStart = true;
  #name = "";
  #data: string | null = null;
  /** Bytes of the event under way in the lines read so far. */
  #carried = 0;

  constructor(onEvent: (name: string, data: string) => void, maxEventBytes: number = MAX_EVENT_BYTES) {
    this.#onEvent = onEvent;
    this.#maxEventBytes = maxEventBytes;
  }

  /** Takes the next bytes in; every event completed by them is reported. */
  feed(bytes: Buffer): void {
    let chunk = bytes;
    if (chunk.length === 0) return;
    if (this.#skipLineFeed) {
      this.#skipLineFeed = false;
      if (chunk[0] === LF) chunk = chunk.subarray(1);
    }
    const end = lastLineEnd(chunk);
    if (end === -1) {
      if (chunk.length > 0) this.#keepTail(chunk);
      return;
    }
    const whole = end + 1 === chunk.length;
    this.#skipLineFeed = whole && chunk[end] === CR;
    this.#takeBlock(this.#withTail(whole ? chunk : chunk.subarray(0, end + 1)));
    if (!whole) this.#keepTail(chunk.subarray(end + 1));
  }

  /** The stream ended: reports a last event without its blank line. */
  end(): void {
    if (this.#tailLength > 0) this.#takeBlock(this.#withTail(LINE_FEED));
    this.#dispatch();
  }

  /** Decodes complete lines and takes them. */
  #takeBlock(block: Buffer): void {
    let text = block.toString("utf8");
    // What cannot be decoded becomes U+FFFD, which may also have been sent.
    if (text.includes(REPLACEMENT) && !isUtf8(block)) this.#failAtInvalidLine(block);
    if (this.#atStart) {
      this.#atStart = false;
      if (text.charCodeAt(0) === BOM) {
        text = text.slice(1);
        this.#carried = BOM_BYTES;
      }
    }
    const hasCarriageReturn = text.includes("\r");
    if (hasCarriageReturn) text = text.replace(/\r\n?/g, "\n");
    if (hasCarriageReturn || this.#carried + block.length > this.#maxEventBytes) this.#weighLines(text);
    else this.#takeLines(text);
  }

  #failAtInvalidLine(block: Buffer): never {
    const bad = firstInvalidLine(block);
    if (bad.start > 0) this.#takeBlock(block.subarray(0, bad.start));
    if (this.#carried + bad.end - bad.start > this.#maxEventBytes) throw tooBig();
    throw new SseError("the provider sent invalid UTF-8");
  }

  /** Takes lines that are together too small for any event to be too big. */
  #takeLines(text: string): void {
    let eventFrom = 0;
    let start = 0;
    while (start < text.length) {
      const end = text.indexOf("\n", start);
      const idle = !this.#underWay;
      if (this.#takeLine(text, start, end) || idle) eventFrom = start;
      start = end + 1;
    }
    if (this.#underWay) this.#carried += Buffer.byteLength(text.slice(eventFrom));
  }

  /** As `#takeLines`, weighing every line. */
  #weighLines(text: string): void {
    let start = 0;
    while (start < text.length) {
      const end = text.indexOf("\n", start);
      const bytes = Buffer.byteLength(text.slice(start, end));
      if (bytes > 0 && this.#carried + bytes > this.#maxEventBytes) throw tooBig();
      this.#takeLine(text, start, end);
      if (this.#underWay) this.#carried += bytes + 1;
      start = end + 1;
    }
  }

  get #underWay(): boolean {
    return this.#data !== null || this.#name !== "";
  }

  /** Takes one line; true when an event ended with it or before it. */
  #takeLine(text: string, start: number, end: number): boolean {
    if (start === end) {
      this.#dispatch();
      return true;
    }
    const first = text.charCodeAt(start);
    if (first === LOWER_D && isField(text, "data", start, end)) {
      const value = text.slice(valueStart(text, start + 4, end), end);
      this.#data = this.#data === null ? value : `${this.#data}\n${value}`;
    } else if (first === LOWER_E && isField(text, "event", start, end)) {
      const startsNext = this.#data !== null;
      if (startsNext) this.#dispatch();
      this.#name = text.slice(valueStart(text, start + 5, end), end);
      return startsNext;
    }
    return false;
  }

  #dispatch(): void {
    const name = this.#name;
    const data = this.#data;
    this.#name = "";
    this.#data = null;
    this.#carried = 0;
    if (data !== null) this.#onEvent(name, data);
  }

  // A copy: `rest` is a view that would keep the whole read alive while the stream is silent. It
  // grows by doubling, so that a long line that comes byte by byte costs no more than its length.
  #keepTail(rest: Buffer): void {
    const length = this.#tailLength + rest.length;
    if (this.#carried + length > this.#maxEventBytes) throw tooBig();
    if (length > this.#tail.length) {
      const bigger = Buffer.allocUnsafeSlow(Math.max(256, 2 * this.#tail.length, length));
      this.#tail.copy(bigger, 0, 0, this.#tailLength);
      this.#tail = bigger;
    }
    rest.copy(this.#tail, this.#tailLength);
    this.#tailLength = length;
  }

  /** The kept tail with `more` behind it, which ends its line. */
  #withTail(more: Buffer): Buffer {
    if (this.#tailLength === 0) return more;
    const block = Buffer.concat([this.#tail.subarray(0, this.#tailLength), more]);
    this.#tail = NOTHING;
    this.#tailLength = 0;
    return block;
  }
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
