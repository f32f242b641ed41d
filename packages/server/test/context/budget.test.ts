import { describe, expect, test } from "vitest";
import { assembleContext, type ContextInput } from "../../src/context/assemble.ts";
import { itemTokens } from "../../src/context/estimate.ts";
import { summaryPreamble } from "../../src/context/guards.ts";
import { type EstimationBudgets, textTokens } from "../../src/quota/estimate.ts";
import {
  allTools,
  assembled,
  cost,
  defaultBudgets,
  history,
  input,
  model,
  noTools,
  sent,
} from "./support.ts";

describe("item estimate (context.md §4.1)", () => {
  test.each<[string, string, Partial<EstimationBudgets>, number, bigint]>([
    ["one byte is rounded down, as a request up", "x", {}, 111, 112n],
    ["4 000 bytes come out even", "x".repeat(4_000), {}, 1_210, 1_210n],
    ["no bytes leave the overhead", "", {}, 110, 110n],
    ["sizes are UTF-8 bytes", "€", { bytesPerTokenConservative: 1 }, 113, 114n],
    ["an emoji is four bytes", "😀", { bytesPerTokenConservative: 1 }, 114, 115n],
    ["a part of a token is a token", "xxxxx", { fixedOverheadTokens: 0, safetyMarginPct: 0 }, 2, 2n],
    ["a margin of 0", "x", { safetyMarginPct: 0 }, 101, 101n],
  ])("%s", (_, text, change, item, request) => {
    const budgets = { ...defaultBudgets, ...change };
    expect(itemTokens(text, budgets)).toBe(item);
    expect(textTokens(Buffer.byteLength(text), budgets)).toBe(request);
  });
});

describe("mandatory items", () => {
  // policy.md §6: window 4 096, cap 1 024, no tools → available 2 972.
  const available = 2_972;
  // 4 × 2 601 bytes: floor(2 701 × 1.1) = 2 971; one token more is 2 972, two are 2 973.
  const longest = "x".repeat(4 * 2_602);

  test.each<[string, Partial<ContextInput>, number, number]>([
    ["the message alone", { userText: `${longest}x` }, 2_973, available],
    ["instructions count", { userText: longest, model: model({ systemPrompt: "S" }) }, 3_083, available],
    ["images count", { imageFileIds: ["a", "b", "c"] }, 111 + 3_000, available],
    [
      "deductions that leave nothing are told against the window",
      { maxOutputTokensApplied: 3_996 },
      4_096,
      4_096,
    ],
    [
      "surcharges are deductions",
      { offered: allTools, maxOutputTokensApplied: 1_996, vectorStoreId: "vs", codeFileIds: ["f"] },
      4_096,
      4_096,
    ],
    ["one token is left, too little", { maxOutputTokensApplied: 3_995 }, 111, 1],
  ])("too big: %s", (_, change, requiredTokens, availableTokens) => {
    expect(assembleContext(input(change))).toEqual({ kind: "too_big", requiredTokens, availableTokens });
  });

  test.each<[string, Partial<ContextInput>, number]>([
    ["a message that fills the budget exactly", { userText: longest }, available],
    ["the example of policy.md §6, long", { userText: "x".repeat(4_000) }, 1_210],
    ["the example of policy.md §6, short", { userText: "x" }, 111],
    ["two images", { imageFileIds: ["a", "b"] }, 2_111],
    ["instructions are one item", { model: model({ systemPrompt: "S".repeat(8) }) }, 111 + 112],
    ["blank instructions are none", { model: model({ systemPrompt: " \n" }) }, 111],
    ["more than max_input_tokens, which bounds only the rest", { model: model({ maxInputTokens: 1 }) }, 111],
  ])("fits: %s", (_, change, tokens) => {
    expect(assembled(change).estimatedContextTokens).toBe(tokens);
  });

  test.each<[string, Partial<typeof noTools>, number]>([
    ["file search", { fileSearch: true }, 500],
    ["web search", { webSearch: true }, 500],
    ["code interpreter", { codeInterpreter: true }, 1_000],
    ["all", allTools, 2_000],
  ])("the surcharge of %s shrinks the budget", (_, on, surcharge) => {
    const change = { offered: { ...noTools, ...on }, vectorStoreId: "vs", codeFileIds: ["f"] };
    const text = (tokens: number) => "x".repeat(4 * (Math.ceil((tokens * 100) / 110) - 100));
    const exact = text(available - surcharge);
    expect(assembled({ ...change, userText: exact }).kind).toBe("fits");
    expect(assembleContext(input({ ...change, userText: `${exact}xxxx` })).kind).toBe("too_big");
  });

  test("the budgets are the model's", () => {
    const estimationBudgets = { ...defaultBudgets, fixedOverheadTokens: 0, safetyMarginPct: 100 };
    expect(assembled({ model: model({ estimationBudgets }) }).estimatedContextTokens).toBe(2);
  });
});

/** A model where exactly `tokens` are left beside the short message of `input()`. */
const roomFor = (tokens: number) =>
  model({ contextWindow: 1_024 + 100 + cost("now") + tokens, maxInputTokens: 1_000_000 });
/** A model whose `max_input_tokens` leaves that room instead of its window. */
const inputCapFor = (tokens: number, surcharges = 0) =>
  model({ contextWindow: 1_000_000, maxInputTokens: surcharges + cost("now") + tokens });

// The window and max_input_tokens bound what may be dropped in the same way (§4.2).
describe.each([
  ["the window", roomFor],
  ["max_input_tokens", inputCapFor],
])("what may be dropped, bounded by %s (context.md §4.3)", (_, room) => {
  const summary = { text: "so far", tokenEstimate: 33 };
  const summaryText = `${summaryPreamble}\n\nso far`;
  const summaryCost = cost(summaryText);

  test("a summary that fits exactly is kept, before any message", () => {
    const context = assembled({ model: room(summaryCost), summary, recent: history("u:q", "a:r") });
    expect(sent(context)).toEqual([`u:${summaryText}`, "u:now"]);
    expect(context).toMatchObject({
      summaryApplied: { tokenEstimate: 33 },
      messagesTruncated: true,
      dropped: { thread_summary: 0, recent_messages: 2, doc_summary: 0 },
      estimatedContextTokens: cost("now") + summaryCost,
    });
  });

  test("a summary that does not fit is dropped whole, and messages take its room", () => {
    const context = assembled({
      model: room(summaryCost - 1),
      summary: { text: "x".repeat(800), tokenEstimate: 33 },
      recent: history("u:q"),
    });
    expect(sent(context)).toEqual(["u:q", "u:now"]);
    expect(context).toMatchObject({
      summaryApplied: null,
      messagesTruncated: false,
      dropped: { thread_summary: 1, recent_messages: 0, doc_summary: 0 },
    });
  });

  test("the oldest messages go first, and none is kept beyond the first that does not fit", () => {
    const recent = history("u:1", "a:2", "u:3", `a:${"x".repeat(4_000)}`, "u:5", "a:6");
    const context = assembled({ model: room(2 * cost("5") + 1_000), recent });
    expect(sent(context)).toEqual(["u:5", "a:6", "u:now"]);
    expect(context).toMatchObject({ messagesTruncated: true, dropped: { recent_messages: 4 } });
  });

  test("messages that fit exactly are all kept", () => {
    const context = assembled({ model: room(2 * cost("1")), recent: history("u:1", "a:2") });
    expect(sent(context)).toEqual(["u:1", "a:2", "u:now"]);
    expect(context.messagesTruncated).toBe(false);
  });

  test("one token less drops the question, and the answer with it", () => {
    const context = assembled({ model: room(2 * cost("1") - 1), recent: history("u:1", "a:2") });
    expect(sent(context)).toEqual(["u:now"]);
    expect(context).toMatchObject({
      messagesTruncated: true,
      dropped: { recent_messages: 2 },
      estimatedContextTokens: cost("now"),
    });
  });

  test("document summaries take what remains, each whole or not at all, newest first", () => {
    const docSummaries = [
      { filename: "c.pdf", summary: "third" },
      { filename: "b.pdf", summary: "x".repeat(4_000) },
      { filename: "a.pdf", summary: "first" },
    ];
    const lines = ['Uploaded document "c.pdf": third', 'Uploaded document "a.pdf": first'];
    const tokens = lines.reduce((sum, line) => sum + cost(line), 0);
    const fits = assembled({ model: room(tokens), docSummaries });
    expect(fits.request.systemInstructions).toBe(lines.join("\n"));
    expect(fits.dropped.doc_summary).toBe(1);
    const tight = assembled({ model: room(tokens - 1), docSummaries });
    expect(tight.request.systemInstructions).toBe(lines[0]);
    expect(tight).toMatchObject({ messagesTruncated: false, dropped: { doc_summary: 2 } });
  });

  test("messages come before document summaries", () => {
    const docSummaries = [{ filename: "a", summary: "b" }];
    const context = assembled({ model: room(cost("q")), recent: history("u:q"), docSummaries });
    expect(sent(context)).toEqual(["u:q", "u:now"]);
    expect(context.request).not.toHaveProperty("systemInstructions");
  });
});

test("surcharges count against max_input_tokens", () => {
  const change = { offered: { ...noTools, webSearch: true }, recent: history("u:q") };
  expect(sent(assembled({ ...change, model: inputCapFor(cost("q"), 500) }))).toEqual(["u:q", "u:now"]);
  expect(sent(assembled({ ...change, model: inputCapFor(cost("q") - 1, 500) }))).toEqual(["u:now"]);
});
