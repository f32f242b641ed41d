import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ProviderEvent } from "../../src/providers/contract.ts";
import { createResponsesTranslator } from "../../src/providers/openai-responses/events.ts";
import { SseReader } from "../../src/providers/sse.ts";
import type { StreamEnd } from "../../src/providers/stream-call.ts";
import { normalisedUsage, sse, usage } from "./support.ts";

/** Translates a stream given in pieces. */
const translate = (
  pieces: readonly Buffer[],
  exposeReasoning = false,
): { events: ProviderEvent[]; end: StreamEnd | null } => {
  const translator = createResponsesTranslator({ exposeReasoning });
  const events: ProviderEvent[] = [];
  let end: StreamEnd | null = null;
  const reader = new SseReader((name, data) => {
    end ??= translator.translate(name, data, events);
  });
  for (const piece of pieces) reader.feed(piece);
  reader.end();
  return { events, end };
};

const events = (text: string, exposeReasoning = false): ProviderEvent[] =>
  translate([Buffer.from(text)], exposeReasoning).events;
const end = (text: string): StreamEnd | null => translate([Buffer.from(text)]).end;

const text = (content: string): ProviderEvent => ({ type: "delta", kind: "text", content });
const start = (name: string): object => ({ type: "tool", phase: "start", name, details: {} });
const done = (name: string, details: object = {}): object => ({ type: "tool", phase: "done", name, details });
const skip = { type: "skip" };

describe("events of a Responses stream (providers.md §2.1)", () => {
  test.each<[string, string, readonly object[]]>([
    ["response.output_text.delta", sse("response.output_text.delta", { delta: "hi" }), [text("hi")]],
    ["an empty delta", sse("response.output_text.delta", { delta: "" }), [skip]],
    ["response.output_text.done", sse("response.output_text.done", { text: "hi" }), [skip]],
    [
      "response.file_search_call.searching",
      sse("response.file_search_call.searching"),
      [start("file_search")],
    ],
    [
      "response.file_search_call.completed",
      sse("response.file_search_call.completed", { results: [{}, {}] }),
      [done("file_search", { files_searched: 2 })],
    ],
    [
      "response.file_search_call.completed without results",
      sse("response.file_search_call.completed"),
      [done("file_search", { files_searched: 0 })],
    ],
    [
      "response.web_search_call.searching and .completed",
      sse("response.web_search_call.searching") + sse("response.web_search_call.completed"),
      [start("web_search"), done("web_search")],
    ],
    [
      "response.code_interpreter_call.in_progress and .interpreting",
      sse("response.code_interpreter_call.in_progress") + sse("response.code_interpreter_call.interpreting"),
      [start("code_interpreter"), skip],
    ],
    [
      "response.code_interpreter_call.completed",
      sse("response.code_interpreter_call.completed", {
        outputs: [
          { type: "logs", logs: "a" },
          { type: "image", url: "x" },
          { type: "logs", logs: "b" },
        ],
      }),
      [done("code_interpreter", { output: "a\nb" })],
    ],
    [
      "long logs",
      sse("response.code_interpreter_call.completed", {
        outputs: [{ type: "logs", logs: "x".repeat(9_000) }],
      }),
      [done("code_interpreter", { output: `${"x".repeat(8_192)}...[truncated]` })],
    ],
    [
      "response.reasoning_summary_text.delta",
      sse("response.reasoning_summary_text.delta", { delta: "hm" }),
      [skip],
    ],
    ["anything else", sse("response.something_new", { delta: "x" }), [skip]],
    ["broken JSON in an unknown event", "event: response.something_new\ndata: {oops\n\n", [skip]],
    ["an event without a name", 'data: {"type":"response.output_text.delta","delta":"hi"}\n\n', [text("hi")]],
    ["[DONE]", "data: [DONE]\n\n", [skip]],
    [
      "a tool start once per call id",
      sse("response.web_search_call.searching", { item_id: "ws_1" }) +
        sse("response.web_search_call.searching", { item_id: "ws_1" }) +
        sse("response.web_search_call.searching", { item_id: "ws_2" }),
      [start("web_search"), skip, start("web_search")],
    ],
  ])("%s", (_name, stream, expected) => {
    expect(events(stream)).toEqual(expected);
  });

  test("reasoning is handed over when it is exposed", () => {
    expect(events(sse("response.reasoning_summary_text.delta", { delta: "hm" }), true)).toEqual([
      { type: "delta", kind: "reasoning", content: "hm" },
    ]);
  });

  test.each<[string, string, object]>([
    [
      "response.completed",
      sse("response.completed", { response: { id: "resp_1", usage } }),
      { kind: "completed", usage: normalisedUsage, responseId: "resp_1", citations: [] },
    ],
    [
      "response.completed, unwrapped and without an id",
      sse("response.completed", { usage }),
      { kind: "completed", usage: normalisedUsage, citations: [] },
    ],
    [
      "response.completed without usage, its id known from response.created",
      sse("response.created", { response: { id: "resp_2" } }) + sse("response.completed", { response: {} }),
      { kind: "completed", usage: null, responseId: "resp_2", citations: [] },
    ],
    [
      "response.incomplete",
      sse("response.incomplete", {
        response: { incomplete_details: { reason: "max_output_tokens" }, usage },
      }),
      { kind: "incomplete", reason: "max_tokens", usage: normalisedUsage, citations: [] },
    ],
    [
      "response.failed, error in the response",
      sse("response.failed", { response: { usage, error: { code: "c", message: "m" } } }),
      { kind: "failed", failure: { kind: "reported", code: "c", message: "m" }, usage: normalisedUsage },
    ],
    [
      "response.failed, error at the top",
      sse("response.failed", { response: {}, error: { code: "c", message: "m" } }),
      { kind: "failed", failure: { kind: "reported", code: "c", message: "m" }, usage: null },
    ],
    [
      "error, flat",
      sse("error", { code: "c", message: "m" }),
      { kind: "failed", failure: { kind: "reported", code: "c", message: "m" }, usage: null },
    ],
    [
      "error with nothing in it",
      sse("error"),
      { kind: "failed", failure: { kind: "reported", code: "", message: "" }, usage: null },
    ],
  ])("%s", (_name, stream, expected) => {
    expect(end(stream)).toEqual(expected);
  });

  test.each([
    ["max_output_tokens", "max_tokens"],
    ["max_tokens", "max_tokens"],
    ["length", "max_tokens"],
    ["content_filter", "content_filter"],
    ["refusal", "content_filter"],
    ["something", "other"],
    ["constructor", "other"],
    [undefined, "other"],
  ])("incomplete reason %s", (reason, expected) => {
    const stream = sse("response.incomplete", { response: { incomplete_details: { reason } } });
    expect(end(stream)).toMatchObject({ kind: "incomplete", reason: expected });
  });

  test("usage: missing counters are 0, parts never exceed their whole", () => {
    const read = (reported: unknown): unknown => {
      const ended = end(sse("response.completed", { response: { usage: reported } }));
      return ended?.usage;
    };
    const zero = {
      inputTokens: 0,
      outputTokens: 0,
      cacheReadInputTokens: 0,
      cacheWriteInputTokens: 0,
      reasoningTokens: 0,
    };
    expect(read({})).toEqual(zero);
    expect(read(null)).toBeNull();
    // What is impossible is passed on as it is, so that nobody takes it for a small bill.
    expect(read({ input_tokens: -1, output_tokens: "7" })).toMatchObject({
      inputTokens: -1,
      outputTokens: Number.NaN,
    });
    expect(
      read({
        input_tokens: 5,
        input_tokens_details: { cached_tokens: 9 },
        output_tokens: 2,
        output_tokens_details: { reasoning_tokens: 3 },
      }),
    ).toEqual({ ...zero, inputTokens: 5, cacheReadInputTokens: 5, outputTokens: 2, reasoningTokens: 2 });
  });

  test("spans count in the whole answer, whatever content part they are in", () => {
    const cite = (start_index: number, end_index: number) => ({
      type: "url_citation",
      url: "https://a.example",
      start_index,
      end_index,
    });
    const part = (text: string, ...annotations: object[]) => ({ type: "output_text", text, annotations });
    const output = [
      {
        type: "message",
        content: [part("one \u{1f600}", cite(0, 3)), part(" two", cite(1, 4), cite(-1, 2))],
      },
      { type: "web_search_call" },
      {
        type: "message",
        content: [{ type: "refusal", refusal: "no" }, part(" three", cite(1, 6), cite(1, 7))],
      },
    ];
    const answer = [...output.flatMap(({ content = [] }) => content)]
      .map((one) => ("text" in one ? one.text : ""))
      .join("");
    const ended = end(sse("response.completed", { response: { output } }));
    const citations = ended?.kind === "completed" ? ended.citations : [];
    const cited = citations.map(({ span }) => span && [...answer].slice(span.start, span.end).join(""));
    expect(cited).toEqual(["one", "two", undefined, "three", undefined]);
  });

  test("citations of files and pages, in order; others and incomplete ones are left out", () => {
    const annotations = [
      { type: "file_citation", file_id: "file-1", title: "A", text: "cited", start_index: 0, end_index: 4 },
      { type: "url_citation", url: "https://a.example", title: "B", start_index: 5, end_index: 9 },
      { type: "file_path", file_id: "file-2" },
      { type: "url_citation", title: "no url" },
    ];
    const output = [
      { type: "reasoning" },
      { type: "message", content: [{ type: "output_text", text: "x", annotations }] },
      {
        type: "message",
        content: [{ type: "output_text", annotations: [{ type: "file_citation", file_id: "file-3" }] }],
      },
    ];
    expect(end(sse("response.completed", { response: { output } }))).toMatchObject({
      citations: [
        {
          source: "file",
          providerFileId: "file-1",
          title: "A",
          snippet: "cited",
          span: { start: 0, end: 4 },
        },
        { source: "web", url: "https://a.example", title: "B", span: { start: 5, end: 9 } },
        { source: "file", providerFileId: "file-3" },
      ],
    });
  });

  test("the fast path reads the same text as JSON.parse, whatever the other members are", () => {
    const plain = fc.string({
      unit: fc.constantFrom("a", "é", "漢", "🎉", " ", '"', "\\", "\n", "\u0001", "{", "}", ":", ","),
    });
    const member = fc.tuple(
      fc.constantFrom("item_id", "sequence_number", "logprobs", "obfuscation", "output_index", "delta_2"),
      fc.oneof(
        plain,
        fc.nat(),
        fc.double({ noNaN: true }),
        fc.constant([]),
        fc.constant([{ delta: "inner" }]),
        fc.constant(null),
      ),
    );
    fc.assert(
      fc.property(plain, fc.array(member), fc.nat(8), fc.boolean(), (content, members, place, typeLast) => {
        const others = [...new Map(members)];
        const pairs: [string, unknown][] = [
          ...others.slice(0, place),
          ["delta", content],
          ...others.slice(place),
        ];
        const type: [string, unknown] = ["type", "response.output_text.delta"];
        const data = JSON.stringify(Object.fromEntries(typeLast ? [...pairs, type] : [type, ...pairs]));
        const expected = content === "" ? [skip] : [text(content)];
        expect(events(`event: response.output_text.delta\ndata: ${data}\n\n`)).toEqual(expected);
      }),
      { numRuns: 2_000 },
    );
  });

  test("the same events whatever the pieces the stream comes in (§12.9)", () => {
    const whole = Buffer.from(
      sse("response.created", { response: { id: "resp_1" } }) +
        sse("response.output_text.delta", { delta: "é漢🎉 and more than thirteen characters" }) +
        sse("response.web_search_call.searching", { item_id: "ws_1" }) +
        sse("response.output_text.delta", { delta: 'a "quoted"\nline' }) +
        sse("response.completed", { response: { id: "resp_1", usage } }),
    );
    const expected = translate([whole]);
    for (let at = 0; at <= whole.length; at += 1) {
      expect(translate([whole.subarray(0, at), whole.subarray(at)])).toEqual(expected);
    }
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length), { maxLength: 30 }), (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), whole.length];
        expect(translate(places.slice(1).map((to, at) => whole.subarray(places[at], to)))).toEqual(expected);
      }),
    );
  });
});
