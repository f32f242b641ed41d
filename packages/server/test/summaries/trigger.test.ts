import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type SummaryTrigger, summaryTrigger, targetDepth, targetOf } from "../../src/summaries/trigger.ts";

describe("what fires (context.md §6.2)", () => {
  const rules = { thresholdPct: 80, keepRecent: 4 };
  const model = { contextWindow: 5_000 };
  // 80 % of 5 000 − 1 000 is 3 200.
  test.each<[string, Partial<Parameters<typeof summaryTrigger>[2]>, SummaryTrigger["reason"] | null]>([
    ["nothing", {}, null],
    ["truncation, always", { messagesTruncated: true }, "truncated"],
    ["truncation before the threshold", { messagesTruncated: true, estimatedTokens: 4_000 }, "truncated"],
    ["one token below the threshold", { estimatedTokens: 3_199 }, null],
    ["the threshold", { estimatedTokens: 3_200 }, "threshold"],
    [
      "a threshold that is no whole number is rounded down",
      { estimatedTokens: 3_199, maxOutputTokens: 1_001 },
      "threshold",
    ],
    ["no room beside the answer never fires", { estimatedTokens: 0, maxOutputTokens: 5_000 }, null],
    ["less than no room either", { estimatedTokens: 9_000, maxOutputTokens: 6_000 }, null],
    ["but truncation does", { messagesTruncated: true, maxOutputTokens: 6_000 }, "truncated"],
  ])("%s", (_name, change, reason) => {
    const context = { messagesTruncated: false, estimatedTokens: 10, maxOutputTokens: 1_000, ...change };
    const fired = summaryTrigger(rules, model, context);
    expect(fired).toEqual(reason === null ? null : { reason, keepRecent: 4 });
  });
});

/** Turns by name, oldest first: `ab` is a whole turn, `a` one without an answer. */
const newest = (...turns: readonly string[]) =>
  turns
    .flatMap((turn) => [...turn].map((_message, at) => ({ id: `${turn}${at}`, requestId: turn })))
    .map((message, at) => ({ ...message, createdAt: `2026-01-01T00:00:${String(at).padStart(2, "0")}Z` }))
    .reverse();

describe("how far it goes", () => {
  test.each<[string, string[], number, string | null, string | null]>([
    ["the newest four stay outside", ["q1", "q2", "q3", "q4"], 4, null, "q21"],
    ["no turn is parted", ["q1", "q2", "q3", "q4"], 3, null, "q21"],
    ["nor one without an answer counted as two", ["q1", "q2", "f", "q4"], 4, null, "q11"],
    ["a turn without an answer is a turn", ["q1", "f", "q3", "q4"], 4, null, "f0"],
    ["everything, when nothing is to be kept", ["q1", "q2"], 0, null, "q21"],
    ["nothing is left", ["q1", "q2"], 4, null, null],
    ["an empty chat", [], 0, null, null],
    ["behind the frontier", ["q1", "q2", "q3", "q4"], 4, "q11", "q21"],
    ["not beyond the frontier", ["q1", "q2", "q3", "q4"], 4, "q21", null],
    ["nor before it", ["q1", "q2", "q3", "q4"], 4, "q31", null],
  ])("%s", (_name, turns, keep, frontier, expected) => {
    const all = newest(...turns);
    const at = all.find((message) => message.id === frontier) ?? null;
    expect(targetOf(all.slice(0, targetDepth(keep)), keep, at)?.id ?? null).toBe(expected);
  });

  test("microseconds tell places apart, whatever zeros the database has cut", () => {
    const message = { id: "a", requestId: "q", createdAt: "2026-01-01T00:00:00.1Z" };
    const before = { id: "b", createdAt: "2026-01-01T00:00:00.099999Z" };
    const behind = { id: "b", createdAt: "2026-01-01T00:00:00.100001Z" };
    expect(targetOf([message], 0, before)?.id).toBe("a");
    expect(targetOf([message], 0, behind)).toBeNull();
  });

  test("for any chat it is the newest end of a turn that leaves as many outside", () => {
    const turns = fc.array(fc.integer({ min: 1, max: 2 }), { maxLength: 12 });
    fc.assert(
      fc.property(turns, fc.integer({ min: 0, max: 12 }), (sizes, keep) => {
        const all = newest(
          ...sizes.map((size, at) => `${String.fromCharCode(97 + at)}${size === 2 ? "b" : ""}`),
        );
        const ends = all.filter((message, at) => message.requestId !== all[at - 1]?.requestId);
        const expected = ends.find((end) => all.indexOf(end) >= keep);
        expect(targetOf(all.slice(0, targetDepth(keep)), keep, null)).toEqual(expected ?? null);
      }),
    );
  });
});
