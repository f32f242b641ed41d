import fc from "fast-check";
import { expect, test } from "vitest";
import { createSseParser, readSse, type WireEvent } from "../src/sse.ts";

const whole = (text: string): WireEvent[] => createSseParser().push(text);

const text = [
  ": keep-alive",
  "",
  "id: 7",
  "event: delta",
  'data: {"type":"text","content":"Grüße 👋"}',
  "",
  ":",
  "event:tool",
  "data:{}",
  "",
  "data: one",
  "data:  two",
  "data",
  "retry: 5",
  "",
  "event: nothing",
  "",
  "",
].join("\n");

const events = [
  { id: "7", name: "delta", data: '{"type":"text","content":"Grüße 👋"}' },
  { id: undefined, name: "tool", data: "{}" },
  { id: undefined, name: "message", data: "one\n two\n" },
];

const bodyOf = (bytes: Uint8Array, cuts: readonly number[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start: (controller) => {
      let from = 0;
      for (const cut of [...cuts, bytes.length]) {
        controller.enqueue(bytes.subarray(from, cut));
        from = cut;
      }
      controller.close();
    },
  });

const read = async (bytes: Uint8Array, cuts: readonly number[]): Promise<WireEvent[]> => {
  const found: WireEvent[] = [];
  for await (const event of readSse(bodyOf(bytes, cuts), () => {})) found.push(event);
  return found;
};

test.each(["\n", "\r\n", "\r"])("events are the same with %j as line end", (end) => {
  expect(whole(text.replaceAll("\n", end))).toEqual(events);
});

test.each(["\n", "\r\n", "\r"])("events are the same cut at every byte, line end %j", async (end) => {
  const bytes = new TextEncoder().encode(text.replaceAll("\n", end));
  for (let cut = 0; cut <= bytes.length; cut += 1) expect(await read(bytes, [cut])).toEqual(events);
  expect(
    await read(
      bytes,
      Array.from(bytes, (_, at) => at),
    ),
  ).toEqual(events);
});

test("for all texts and cuts the events are those of the whole", async () => {
  const line = fc.oneof(
    fc.constantFrom("event: delta", "data: x", "id: 1", ":", "", "data", "\uFEFFdata: y"),
    fc.string({ maxLength: 5 }),
  );
  const lines = fc.array(fc.tuple(line, fc.constantFrom("\n", "\r\n", "\r")), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(lines, fc.array(fc.nat(60), { maxLength: 6 }), async (parts, cuts) => {
      const source = parts.flat().join("");
      const bytes = new TextEncoder().encode(source);
      const sorted = cuts.filter((cut) => cut <= bytes.length).toSorted((a, b) => a - b);
      expect(await read(bytes, sorted)).toEqual(await read(bytes, []));
    }),
  );
});

test("an event without its blank line is not one", () => {
  expect(whole("event: done\ndata: {}\n")).toEqual([]);
});

test("leaving the loop cancels the body", async () => {
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const event of readSse(body, () => {})) {
    expect(event.data).toBe("x");
    break;
  }
  expect(cancelled).toBe(true);
});
