import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SseError, SseReader } from "../../src/providers/sse.ts";

type Read = readonly [name: string, data: string];

/** Feeds the pieces; an error becomes the last entry. */
const readAll = (pieces: readonly Buffer[], maxEventBytes?: number): (Read | string)[] => {
  const events: (Read | string)[] = [];
  const reader = new SseReader((name, data) => events.push([name, data]), maxEventBytes);
  try {
    for (const piece of pieces) reader.feed(piece);
    reader.end();
  } catch (error) {
    if (!(error instanceof SseError)) throw error;
    events.push(error.message);
  }
  return events;
};

const cutAt = (bytes: Buffer, offsets: readonly number[]): Buffer[] => {
  const places = [0, ...[...offsets].sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, at) => bytes.subarray(places[at], end));
};

const cases: readonly [string, string | Buffer, readonly (Read | string)[]][] = [
  [
    "LF",
    "event: a\ndata: 1\n\nevent: b\ndata: 2\n\n",
    [
      ["a", "1"],
      ["b", "2"],
    ],
  ],
  [
    "CRLF",
    "event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n",
    [
      ["a", "1"],
      ["b", "2"],
    ],
  ],
  [
    "CR",
    "event: a\rdata: 1\r\revent: b\rdata: 2\r\r",
    [
      ["a", "1"],
      ["b", "2"],
    ],
  ],
  [
    "line ends of every kind mixed",
    "event: a\r\ndata: 1\n\rdata: 2\r\n\n",
    [
      ["a", "1"],
      ["", "2"],
    ],
  ],
  ["comments", ": hello\nevent: a\n: inside\ndata: 1\n\n:\n\n", [["a", "1"]]],
  ["data of several lines", "data: 1\ndata: 2\ndata\ndata:3\n\n", [["", "1\n2\n\n3"]]],
  ["one space after the colon is dropped, not two", "data:  1\n\n", [["", " 1"]]],
  ["a byte order mark", "\ufeffevent: a\ndata: 1\n\n", [["a", "1"]]],
  ["a byte order mark elsewhere is text", "data: \ufeff1\n\n", [["", "\ufeff1"]]],
  ["text of 2, 3 and 4 bytes", "data: é漢🎉\n\n", [["", "é漢🎉"]]],
  ["a sent replacement character", "data: \ufffd\n\n", [["", "\ufffd"]]],
  ["a last event without its blank line", "event: a\ndata: 1", [["a", "1"]]],
  [
    "an event line instead of the blank line",
    "event: a\ndata: 1\nevent: b\ndata: 2\n\n",
    [
      ["a", "1"],
      ["b", "2"],
    ],
  ],
  ["an event without data", "event: a\n\ndata: 1\n\n", [["", "1"]]],
  ["unknown fields", "id: 1\nretry: 2\ndatum: 3\ndata: 4\nevents: 5\n\n", [["", "4"]]],
  ["nothing", "", []],
  [
    "invalid UTF-8 after a good event",
    Buffer.from("data: 1\n\ndata: \xff\n\n", "latin1"),
    [["", "1"], "the provider sent invalid UTF-8"],
  ],
  [
    "invalid UTF-8 in a last line",
    Buffer.from("data: 1\n\ndata: \xc3", "latin1"),
    [["", "1"], "the provider sent invalid UTF-8"],
  ],
];

describe("reading server-sent events (providers.md §5)", () => {
  test.each(cases)("%s", (_name, text, expected) => {
    expect(readAll([Buffer.from(text)])).toEqual(expected);
  });

  test.each(cases)("%s, cut at every byte", (_name, text, expected) => {
    const bytes = Buffer.from(text);
    for (let at = 0; at <= bytes.length; at += 1) expect(readAll(cutAt(bytes, [at]))).toEqual(expected);
    expect(readAll([...bytes].map((byte) => Buffer.from([byte])))).toEqual(expected);
  });

  test("any bytes, cut anyhow, read the same as in one piece (§12.9)", () => {
    const fragment = fc.oneof(
      fc.constantFrom(
        "event: a",
        "data: 1",
        "data:",
        "event:",
        ": c",
        "id: 3",
        "é",
        "漢🎉",
        "\ufeff",
        "\ufffd",
      ),
      fc.constantFrom("\n", "\r", "\r\n", "\n\n", "\r\n\r\n"),
      fc.string({ maxLength: 5 }),
    );
    const bytes = fc.oneof(
      fc.array(fragment, { maxLength: 30 }).map((parts) => Buffer.from(parts.join(""))),
      fc
        .array(
          fc.oneof(
            fragment.map((part) => Buffer.from(part)),
            fc.uint8Array({ maxLength: 3 }),
          ),
          { maxLength: 30 },
        )
        .map((parts) => Buffer.concat(parts)),
    );
    fc.assert(
      fc.property(
        bytes,
        fc.array(fc.nat(200), { maxLength: 12 }),
        fc.integer({ min: 1, max: 40 }),
        (whole, cuts, max) => {
          const offsets = cuts.filter((at) => at <= whole.length);
          expect(readAll(cutAt(whole, offsets))).toEqual(readAll([whole]));
          expect(readAll(cutAt(whole, offsets), max)).toEqual(readAll([whole], max));
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("an event of exactly the limit passes, one byte more fails", () => {
    const limit = 1_048_576;
    const event = (bytes: number): Buffer => Buffer.from(`data: ${"x".repeat(bytes - 6)}\n\n`);
    expect(readAll([event(limit)])).toEqual([["", "x".repeat(limit - 6)]]);
    expect(readAll([event(limit + 1)])).toEqual(["the provider sent an event that is too big"]);
  });

  test("an event that never ends fails at the limit, not at the end of memory", () => {
    const reader = new SseReader(() => {}, 1_000);
    const feedForever = (): void => {
      for (let n = 0; n < 1_000; n += 1) reader.feed(Buffer.from("data: abc\n"));
    };
    expect(feedForever).toThrow(SseError);
  });

  test("a stream of any length passes while its events are small", () => {
    let events = 0;
    const reader = new SseReader(() => {
      events += 1;
    }, 100);
    for (let n = 0; n < 1_000; n += 1) reader.feed(Buffer.from(": comment\n\ndata: abc\n\n"));
    expect(events).toBe(1_000);
  });
});
