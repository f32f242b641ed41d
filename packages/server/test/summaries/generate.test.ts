import { describe, expect, test } from "vitest";
import type { TenantId, UserId } from "../../src/auth/actor.ts";
import type { PolicySnapshot } from "../../src/policy/snapshot.ts";
import {
  type LlmProvider,
  ProviderError,
  type ProviderRequest,
  type ProviderTarget,
} from "../../src/providers/contract.ts";
import {
  EmptySummaryError,
  generateSummary,
  PromptTooLongError,
  type SummaryCall,
} from "../../src/summaries/generate.ts";
import { summaryModel } from "../../src/summaries/model.ts";
import { inputRoom, promptTokens } from "../../src/summaries/prompt.ts";
import { model } from "../context/support.ts";

const usage = (inputTokens: number) => ({
  inputTokens,
  outputTokens: 10,
  cacheReadInputTokens: 1,
  cacheWriteInputTokens: 2,
  reasoningTokens: 3,
});

const tooLong = new ProviderError("provider_error", "no", {
  httpStatus: 400,
  detail: 'HTTP 400: {"error":{"code":"context_length_exceeded"}}',
});

type Answer = string | Error;

/** A provider that gives these answers, one per call, and keeps what it was asked. */
const calling = (
  answers: readonly Answer[],
  change: Partial<SummaryCall> = {},
): { call: SummaryCall; asked: ProviderRequest[] } => {
  const asked: ProviderRequest[] = [];
  const left = [...answers];
  const adapter: LlmProvider = {
    stream: () => {
      throw new Error("not streamed");
    },
    complete: async (request) => {
      asked.push(request);
      const answer = left.shift();
      if (answer === undefined) throw new Error("one call too many");
      if (answer instanceof Error) throw answer;
      return { content: answer, usage: usage(asked.length * 100), citations: [] };
    },
  };
  const call: SummaryCall = {
    adapter,
    target: { providerId: "p" } as ProviderTarget,
    model: model(),
    instructions: "DO",
    thread: { tenantId: "t" as TenantId, userId: "u" as UserId, chatId: "c" },
    systemRequestId: "task",
    maxChars: 0,
    signal: new AbortController().signal,
    ...change,
  };
  return { call, asked };
};

const thread = (count: number, bytes = 20) =>
  Array.from({ length: count }, (_, at) => ({
    id: `${at}`,
    role: at % 2 === 0 ? ("user" as const) : ("assistant" as const),
    content: `m${at}`.padEnd(bytes, "."),
  }));

const textOf = (request: ProviderRequest): string =>
  request.messages
    .flatMap(({ content }) => content.map((part) => ("text" in part ? part.text : "")))
    .join("");

/** The numbers of the messages a prompt holds. */
const told = (request: ProviderRequest): number[] =>
  [...textOf(request).matchAll(/: m(\d+)\./g)].map(([, at]) => Number(at));

const upTo = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, at) => from + at);

test("one call, without tools, by the model's own limits and in the task's name (step 7)", async () => {
  const { call, asked } = calling(["<summary>short</summary>"]);
  const generated = await generateSummary(call, thread(4), null);
  expect(generated).toEqual({ text: "short", usage: usage(100), absurdUsage: false, calls: 1, left: 0 });
  expect(asked).toEqual([
    expect.objectContaining({
      model: "m-1",
      systemInstructions: "DO",
      maxOutputTokens: 1_024,
      tools: [],
      correlationId: "task",
      metadata: { tenantId: "t", userId: "u", chatId: "c", requestType: "summary", features: [] },
    }),
  ]);
});

describe("the model (step 4)", () => {
  const priced = (id: string, input: bigint, change = {}) =>
    model({ id, inputMultiplierMicro: input, ...change });
  const mini = priced("gpt-4.1-mini", 9n);
  test.each<[string, ReturnType<typeof model>[], string, string | null]>([
    ["the configured one", [priced("cheap", 1n), mini, priced("mine", 5n)], "mine", "mine"],
    ["may be of any tier", [mini, priced("mine", 5n, { tier: "premium" })], "mine", "mine"],
    ["gpt-4.1-mini without configuration", [priced("cheap", 1n), mini], "", "gpt-4.1-mini"],
    ["the cheapest where the catalog lacks it", [priced("b", 2n), priced("a", 1n), priced("c", 3n)], "", "a"],
    ["or where it is disabled", [priced("mine", 1n, { enabled: false }), priced("b", 2n)], "mine", "b"],
    [
      "by the price of output where input is the same",
      [priced("a", 1n, { outputMultiplierMicro: 5n }), priced("b", 1n)],
      "",
      "b",
    ],
    ["the first of the catalog at one price", [priced("b", 1n), priced("a", 1n)], "", "b"],
    [
      "none of the premium tier is chosen for its price",
      [priced("p", 1n, { tier: "premium" }), priced("s", 2n)],
      "",
      "s",
    ],
    ["nor a disabled one", [priced("off", 1n, { enabled: false }), priced("s", 2n)], "", "s"],
    ["none", [priced("p", 1n, { tier: "premium" })], "", null],
  ])("%s", (_name, modelCatalog, configured, expected) => {
    const killSwitches = {} as PolicySnapshot["killSwitches"];
    expect(summaryModel({ policyVersion: 1n, modelCatalog, killSwitches }, configured)?.id ?? null).toBe(
      expected,
    );
  });
});

test("nothing usable is an error", async () => {
  const { call } = calling(["<analysis>only</analysis>"]);
  await expect(generateSummary(call, thread(4), "before")).rejects.toThrow(EmptySummaryError);
});

test("other failures of the provider are passed on", async () => {
  const error = new ProviderError("rate_limited", "later");
  await expect(generateSummary(calling([error]).call, thread(4), null)).rejects.toBe(error);
});

describe("a prompt the model finds too long (step 8)", () => {
  test.each<[string, number, Answer[], number[][]]>([
    ["loses a fifth of its oldest messages", 20, [tooLong, "ok"], [upTo(0, 20), upTo(4, 20)]],
    ["rounded up", 21, [tooLong, "ok"], [upTo(0, 21), upTo(5, 21)]],
    ["at least two", 5, [tooLong, "ok"], [upTo(0, 5), upTo(2, 5)]],
    ["twice", 20, [tooLong, tooLong, "ok"], [upTo(0, 20), upTo(4, 20), upTo(8, 20)]],
    ["and keeps two", 3, [tooLong, "ok"], [upTo(0, 3), upTo(1, 3)]],
  ])("%s", async (_name, count, answers, expected) => {
    const { call, asked } = calling(answers);
    const { text, left, calls } = await generateSummary(call, thread(count), null);
    expect(asked.map(told)).toEqual(expected);
    expect({ text, left, calls }).toEqual({
      text: "ok",
      left: count - (expected.at(-1)?.length ?? 0),
      calls: expected.length,
    });
  });

  test("not a third time", async () => {
    const { call, asked } = calling([tooLong, tooLong, tooLong]);
    await expect(generateSummary(call, thread(20), null)).rejects.toThrow(PromptTooLongError);
    expect(asked).toHaveLength(3);
  });

  test("not with two messages left", async () => {
    const { call, asked } = calling([tooLong]);
    await expect(generateSummary(call, thread(2), null)).rejects.toThrow(PromptTooLongError);
    expect(asked).toHaveLength(1);
  });

  test.each([
    "This model's maximum context length is 8192 tokens.",
    "Request exceeds the Token Limit",
    "too many tokens in prompt",
  ])("is recognised by the text %j", async (detail) => {
    const { call } = calling([new ProviderError("provider_error", "x", { detail }), "ok"]);
    expect((await generateSummary(call, thread(9), null)).text).toBe("ok");
  });
});

describe("a thread longer than the model reads at once", () => {
  test("is folded part by part, each into the summary before it, and fits the model every time", async () => {
    const { call, asked } = calling(["first", "second", "third", "fourth"], { maxChars: 4_000 });
    const generated = await generateSummary(call, thread(40, 500), "before");
    expect(asked.length).toBeGreaterThan(1);
    expect(asked.flatMap(told)).toEqual(upTo(0, 40));
    const summaries = asked.map((one) => /<existing_summary>\n(.*)\n/.exec(textOf(one))?.[1]);
    expect(summaries).toEqual(["before", "first", "second", "third"].slice(0, asked.length));
    for (const request of asked) {
      const prompt = { instructions: request.systemInstructions ?? "", text: textOf(request) };
      expect(promptTokens(prompt, call.model)).toBeLessThanOrEqual(inputRoom(call.model));
    }
    expect(generated).toMatchObject({
      text: ["first", "second", "third", "fourth"][asked.length - 1],
      left: 0,
      calls: asked.length,
      usage: { inputTokens: (100 * asked.length * (asked.length + 1)) / 2, outputTokens: 10 * asked.length },
    });
  });

  test("in four parts at most: of what is longer still the oldest messages are left out", async () => {
    const { call, asked } = calling(["a", "b", "c", "d"]);
    const { left, text } = await generateSummary(call, thread(2_000, 500), null);
    expect(asked).toHaveLength(4);
    expect(asked.flatMap(told)).toEqual(upTo(left, 2_000));
    expect(left).toBeGreaterThan(0);
    expect(text).toBe("d");
  });

  test.each([
    ["before the first call", [], true],
    ["after a call that was paid", ["first"], false],
  ])("a call kept back %s is no attempt: %s", async (_when, answers, withheld) => {
    const kept = new ProviderError("rate_limited", "the breaker is open", { withheld: true });
    const { call } = calling([...answers, kept], { maxChars: 4_000 });
    const failure = generateSummary(call, thread(40, 500), null);
    await expect(failure).rejects.toMatchObject({ code: "rate_limited", withheld });
  });

  test("a single message longer than the model is tried, not skipped", async () => {
    const { call, asked } = calling(["ok"]);
    await generateSummary(call, thread(1, 50_000), null);
    expect(asked.map(told)).toEqual([[0]]);
  });
});
