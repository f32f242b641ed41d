import { createParser, type EventSourceMessage } from "eventsource-parser";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  encodeEvent,
  nextPhase,
  type StreamEvent,
  type StreamEventName,
  StreamGrammar,
  type StreamPhase,
} from "../../src/turns/grammar.ts";

const names: readonly StreamEventName[] = [
  "stream_started",
  "ping",
  "delta",
  "tool",
  "citations",
  "done",
  "error",
];

// The table of turns.md §5.3: what each phase accepts; everything else is dropped.
test.each<[StreamPhase, Partial<Record<StreamEventName, StreamPhase>>]>([
  ["idle", { stream_started: "started", done: "terminal", error: "terminal" }],
  [
    "started",
    {
      ping: "pinging",
      delta: "streaming",
      tool: "streaming",
      citations: "citations",
      done: "terminal",
      error: "terminal",
    },
  ],
  [
    "pinging",
    {
      ping: "pinging",
      delta: "streaming",
      tool: "streaming",
      citations: "citations",
      done: "terminal",
      error: "terminal",
    },
  ],
  [
    "streaming",
    { delta: "streaming", tool: "streaming", citations: "citations", done: "terminal", error: "terminal" },
  ],
  ["citations", { done: "terminal", error: "terminal" }],
  ["terminal", {}],
])("phase %s", (phase, accepted) => {
  for (const name of names) expect(nextPhase(phase, name)).toBe(accepted[name] ?? null);
});

const text = fc.string({ unit: "binary" });
const event: fc.Arbitrary<StreamEvent> = fc.oneof(
  fc.record({
    event: fc.constant("stream_started" as const),
    data: fc.record({ request_id: fc.uuid(), message_id: fc.uuid(), is_new_turn: fc.boolean() }),
  }),
  fc.constant({ event: "ping" as const, data: {} }),
  fc.record({
    event: fc.constant("delta" as const),
    data: fc.record({ type: fc.constantFrom("text" as const, "reasoning" as const), content: text }),
  }),
  fc.record({
    event: fc.constant("tool" as const),
    data: fc.record({
      phase: fc.constantFrom("start" as const, "done" as const),
      name: fc.constantFrom("file_search" as const, "code_interpreter" as const),
      details: fc.dictionary(fc.string(), text),
    }),
  }),
  fc.record({
    event: fc.constant("citations" as const),
    data: fc.record({
      items: fc.array(fc.record({ source: fc.constantFrom("file" as const, "web" as const), title: text })),
    }),
  }),
  fc.record({
    event: fc.constant("done" as const),
    data: fc.record({
      usage: fc.option(fc.record({ input_tokens: fc.maxSafeNat(), output_tokens: fc.maxSafeNat() })),
      effective_model: text,
      selected_model: text,
      quota_decision: fc.constantFrom("allow" as const, "downgrade" as const),
    }),
  }),
  fc.record({ event: fc.constant("error" as const), data: fc.record({ code: text, message: text }) }),
);

const letters: Record<StreamEventName, string> = {
  stream_started: "s",
  ping: "p",
  delta: "d",
  tool: "t",
  citations: "c",
  done: "e",
  error: "e",
};

test("whatever is offered, what is accepted is a prefix of a word of the grammar", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (offered) => {
      const grammar = new StreamGrammar();
      const word = offered.filter((one) => grammar.accept(one)).map((one) => letters[one.event]);
      expect(word.join("")).toMatch(/^(s(p*([dt]*(c?(e)?)?)?)?)?$|^e$/);
      expect(grammar.ended).toBe(word.at(-1) === "e");
      expect(grammar.hasContent).toBe(/[dt]/.test(word.join("")));
      expect(grammar.acceptsPing).toBe(/^sp*$/.test(word.join("")));
    }),
  );
});

test("citations are never empty", () => {
  const grammar = new StreamGrammar();
  grammar.accept({ event: "stream_started", data: { request_id: "r", message_id: "m", is_new_turn: true } });
  expect(grammar.accept({ event: "citations", data: { items: [] } })).toBe(false);
  expect(grammar.phase).toBe("started");
});

/** What a client's parser makes of the bytes. */
const parse = (stream: string): EventSourceMessage[] => {
  const seen: EventSourceMessage[] = [];
  createParser({ onEvent: (one) => seen.push(one) }).feed(stream);
  return seen;
};

test("any events, one after the other, arrive as they are", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(event, fc.option(fc.nat(), { nil: undefined }))), (sent) => {
      const stream = sent
        .map(([one, seq]) => encodeEvent(seq === undefined ? one : { ...one, seq }))
        .join("");
      expect(stream).not.toContain("\r");
      const received = parse(stream);
      expect(received.map((one) => ({ event: one.event, data: JSON.parse(one.data) }))).toEqual(
        sent.map(([one]) => JSON.parse(JSON.stringify(one))),
      );
      expect(received.map(({ id }) => id)).toEqual(
        sent.map(([, seq]) => (seq === undefined ? undefined : String(seq))),
      );
    }),
  );
});

test("a frame is an event line, one data line and a blank line; the id line only with a number", () => {
  expect(encodeEvent({ event: "delta", data: { type: "text", content: 'a\n"b"' } })).toBe(
    'event: delta\ndata: {"type":"text","content":"a\\n\\"b\\""}\n\n',
  );
  expect(encodeEvent({ event: "ping", data: {}, seq: 7 })).toBe("id: 7\nevent: ping\ndata: {}\n\n");
});

test("int64 amounts stay numbers", () => {
  const frame = encodeEvent({
    event: "done",
    data: {
      usage: { input_tokens: 9_007_199_254_740_993n, output_tokens: 1 },
      effective_model: "a",
      selected_model: "a",
      quota_decision: "allow",
    },
  });
  expect(frame).toContain('"usage":{"input_tokens":9007199254740993,"output_tokens":1}');
});
