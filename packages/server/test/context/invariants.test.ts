import fc from "fast-check";
import { expect, test } from "vitest";
import { assembleContext, type ContextInput } from "../../src/context/assemble.ts";
import { bytesWithin, itemTokens } from "../../src/context/estimate.ts";
import { summaryPreamble } from "../../src/context/guards.ts";
import type { ModelEntry } from "../../src/policy/snapshot.ts";
import { surchargeTokens } from "../../src/quota/estimate.ts";
import { input, model } from "./support.ts";

const text = (maxLength: number) =>
  fc.oneof(
    fc.string({ unit: "grapheme", maxLength }),
    fc.nat({ max: maxLength * 20 }).map((length) => "x".repeat(length)),
  );

const models: fc.Arbitrary<ModelEntry> = fc
  .record({
    contextWindow: fc.integer({ min: 1, max: 6_000 }),
    maxInputTokens: fc.integer({ min: 1, max: 6_000 }),
    systemPrompt: text(40),
    estimationBudgets: fc.record({
      bytesPerTokenConservative: fc.integer({ min: 1, max: 8 }),
      fixedOverheadTokens: fc.nat({ max: 150 }),
      safetyMarginPct: fc.nat({ max: 60 }),
      imageTokenBudget: fc.nat({ max: 1_000 }),
      toolSurchargeTokens: fc.nat({ max: 500 }),
      webSearchSurchargeTokens: fc.nat({ max: 500 }),
      codeInterpreterSurchargeTokens: fc.nat({ max: 500 }),
      minimalGenerationFloor: fc.constant(50),
    }),
  })
  .map(model);

const messages = fc
  .array(
    fc.record({
      role: fc.constantFrom("user" as const, "assistant" as const, "user", "assistant", "system" as const),
      content: text(30),
    }),
    { maxLength: 14 },
  )
  // Texts that cannot be mistaken for each other.
  .map((list) => list.map((message, index) => ({ ...message, content: `${index}/${message.content}` })));

const inputs: fc.Arbitrary<ContextInput> = fc
  .record({
    model: models,
    maxOutputTokensApplied: fc.integer({ min: 1, max: 1_500 }),
    offered: fc.record({
      fileSearch: fc.boolean(),
      webSearch: fc.boolean(),
      codeInterpreter: fc.boolean(),
    }),
    guards: fc.record({ webSearch: text(20), fileSearch: text(20), untrustedContent: text(20) }),
    summary: fc.option(fc.record({ text: text(60), tokenEstimate: fc.nat() })),
    recent: messages,
    recentLimit: fc.nat({ max: 14 }),
    userText: text(40).map((message) => `current/${message}`),
    imageFileIds: fc.array(fc.string({ minLength: 1 }), { maxLength: 4 }),
    vectorStoreId: fc.constant("vs"),
    searchedOnly: fc.constant(null),
    searchedHere: fc.boolean(),
    codeFileIds: fc.constant(["f"]),
    docSummaries: fc
      .array(text(30), { maxLength: 4 })
      .map((list) => list.map((summary, index) => ({ filename: `${index}.pdf`, summary }))),
  })
  .map(input);

const textsOf = (content: readonly object[]): string[] =>
  content.flatMap((part) => ("text" in part && typeof part.text === "string" ? [part.text] : []));

/** The request taken apart again, so that the rules are checked on what is sent. */
const partsOf = (from: ContextInput) => {
  const context = assembleContext(from);
  if (context.kind !== "fits") return null;
  const { messages, systemInstructions = "" } = context.request;
  const withSummary = context.summaryApplied !== null;
  const current = messages.at(-1);
  const recent = messages.slice(withSummary ? 1 : 0, -1);
  const eligible = from.recent.slice(0, from.recentLimit).filter((message) => message.role !== "system");
  const lines = from.docSummaries
    .map(({ filename, summary }) => `Uploaded document "${oneLine(filename)}": ${oneLine(summary)}`)
    .filter((line) => systemInstructions.split("\n").includes(line));
  return { context, current, recent, eligible, withSummary, lines, systemInstructions };
};

const oneLine = (value: string) => value.trim().split(/\s+/).join(" ");

const mandatoryInstructions = (from: ContextInput): string => {
  const { offered, guards } = from;
  return [
    from.model.systemPrompt,
    ...(offered.webSearch ? [guards.webSearch] : []),
    ...(offered.fileSearch && !from.searchedHere ? [guards.fileSearch] : []),
    ...(offered.webSearch || offered.fileSearch || offered.codeInterpreter ? [guards.untrustedContent] : []),
  ]
    .filter((part) => part.trim() !== "")
    .join("\n\n");
};

const forAll = (check: (from: ContextInput) => void) =>
  fc.assert(fc.property(inputs, check), { numRuns: 1_000 });

test("the samples reach every outcome", () => {
  const seen = new Set<string>();
  for (const from of fc.sample(inputs, 1_000)) {
    const context = assembleContext(from);
    seen.add(context.kind);
    if (context.kind === "too_big") continue;
    for (const [item, count] of Object.entries(context.dropped)) seen.add(`${item}:${count > 0}`);
    seen.add(`summary:${context.summaryApplied !== null}`);
  }
  expect(seen.size).toBe(2 + 3 * 2 + 2);
});

test("the same input makes the same request, byte for byte, and is not changed (§12.1)", () => {
  forAll((from) => {
    const copy = structuredClone(from);
    const first = JSON.stringify(assembleContext(from));
    expect(from).toEqual(copy);
    expect(JSON.stringify(assembleContext(copy))).toBe(first);
  });
});

test("the current message appears once, last and whole (§12.2, §12.4)", () => {
  forAll((from) => {
    const parts = partsOf(from);
    if (parts === null) return;
    expect(parts.current).toEqual({
      role: "user",
      content: [{ text: from.userText }, ...from.imageFileIds.map((imageFileId) => ({ imageFileId }))],
    });
    const texts = parts.context.request.messages.flatMap(({ content }) => textsOf(content));
    expect(texts.filter((one) => one === from.userText)).toHaveLength(1);
  });
});

test("instructions are whole, and what does not fit is refused (§12.4)", () => {
  forAll((from) => {
    const { model, maxOutputTokensApplied, offered } = from;
    const budgets = model.estimationBudgets;
    const instructions = mandatoryInstructions(from);
    const deductions =
      maxOutputTokensApplied + budgets.fixedOverheadTokens + surchargeTokens(offered, budgets);
    const mandatory =
      (instructions === "" ? 0 : itemTokens(instructions, budgets)) +
      itemTokens(from.userText, budgets) +
      from.imageFileIds.length * budgets.imageTokenBudget;
    const parts = partsOf(from);
    const fits = deductions < model.contextWindow && mandatory <= model.contextWindow - deductions;
    expect(parts !== null).toBe(fits);
    if (parts !== null) expect(parts.systemInstructions.startsWith(instructions)).toBe(true);
  });
});

test("the messages sent are a contiguous newest tail that starts with a question (§12.5)", () => {
  forAll((from) => {
    const parts = partsOf(from);
    if (parts === null) return;
    const { recent, eligible, context } = parts;
    const tail = eligible.slice(0, recent.length).reverse();
    expect(recent).toEqual(tail.map(({ role, content }) => ({ role, content: [{ text: content }] })));
    const complete = !context.messagesTruncated && context.summaryApplied !== null;
    if (!complete) expect(recent[0]?.role ?? "user").toBe("user");
    const outside = from.recent.slice(from.recentLimit).some((message) => message.role !== "system");
    expect(context.messagesTruncated).toBe(outside || recent.length < eligible.length);
  });
});

test("a summary is dropped only when it does not fit after the mandatory part (§12.5)", () => {
  forAll((from) => {
    const bare = assembleContext({ ...from, summary: null, recent: [], docSummaries: [] });
    const context = assembleContext(from);
    if (from.summary === null || bare.kind !== "fits" || context.kind !== "fits") return;
    const budgets = from.model.estimationBudgets;
    const used =
      bare.estimatedContextTokens -
      bare.excerptTokens +
      itemTokens(`${summaryPreamble}\n\n${from.summary.text}`, budgets);
    expect(context.summaryApplied !== null).toBe(used <= ceilingOf(from));
  });
});

/** What droppable items may fill the request to (§4.2). */
const ceilingOf = ({ model, offered, maxOutputTokensApplied }: ContextInput): number => {
  const budgets = model.estimationBudgets;
  const surcharges = surchargeTokens(offered, budgets);
  return Math.min(
    model.contextWindow - maxOutputTokensApplied - budgets.fixedOverheadTokens - surcharges,
    model.maxInputTokens - surcharges,
  );
};

test("the estimate is that of what is sent, and within the budget (§12.6)", () => {
  forAll((from) => {
    const parts = partsOf(from);
    if (parts === null) return;
    const budgets = from.model.estimationBudgets;
    const instructions = mandatoryInstructions(from);
    const mandatory =
      (instructions === "" ? 0 : itemTokens(instructions, budgets)) +
      from.imageFileIds.length * budgets.imageTokenBudget +
      itemTokens(from.userText, budgets);
    const droppable = [
      ...parts.context.request.messages.slice(0, -1).flatMap(({ content }) => textsOf(content)),
      ...parts.lines,
    ].reduce((sum, one) => sum + itemTokens(one, budgets), 0);
    const { estimatedContextTokens, excerptTokens } = parts.context;
    expect(estimatedContextTokens).toBe(mandatory + droppable + excerptTokens);
    if (droppable + excerptTokens > 0) expect(estimatedContextTokens).toBeLessThanOrEqual(ceilingOf(from));
    if (!from.searchedHere || !from.offered.fileSearch) expect(excerptTokens).toBe(0);
  });
});

test("passages of any length that fit their room keep the request within the budget (§12.6)", () => {
  fc.assert(
    fc.property(inputs, fc.nat({ max: 40_000 }), (from, length) => {
      const context = assembleContext(from);
      if (context.kind !== "fits" || context.excerptTokens === 0) return;
      const budgets = from.model.estimationBudgets;
      const bytes = Math.min(length, bytesWithin(context.excerptTokens, budgets));
      if (bytes === 0) return;
      const passages = itemTokens("x".repeat(bytes), budgets);
      expect(passages).toBeLessThanOrEqual(context.excerptTokens);
      expect(context.estimatedContextTokens - context.excerptTokens + passages).toBeLessThanOrEqual(
        ceilingOf(from),
      );
    }),
    { numRuns: 1_000 },
  );
});

test("passages have half of the room before any message is taken, and leave the summary alone (§4.3)", () => {
  forAll((from) => {
    const mine = { ...from, offered: { ...from.offered, fileSearch: true }, searchedHere: true };
    const context = assembleContext(mine);
    const bare = assembleContext({ ...mine, recent: [], docSummaries: [] });
    if (context.kind !== "fits" || bare.kind !== "fits") return;
    expect(context.summaryApplied).toEqual(bare.summaryApplied);
    // With nothing else to send they take all they can use.
    const before = bare.estimatedContextTokens - bare.excerptTokens;
    const half = Math.floor((ceilingOf(mine) - before) / 2);
    expect(context.excerptTokens).toBeGreaterThanOrEqual(Math.min(bare.excerptTokens, half));
  });
});
