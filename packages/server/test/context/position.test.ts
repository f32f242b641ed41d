import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { contextFingerprint } from "../../src/context/fingerprint.ts";
import { comparePositions } from "../../src/context/position.ts";
import { assembled, history } from "./support.ts";

const at = (fraction: string, id = "a") => ({ createdAt: `2026-01-01T10:00:00${fraction}Z`, id });

describe("the order of messages (turns.md §1)", () => {
  test.each<[string, ReturnType<typeof at>, ReturnType<typeof at>]>([
    ["whole seconds", at(""), at(".000001")],
    ["cut zeros", at(".1"), at(".100001")],
    ["the shorter fraction is not the smaller", at(".099999"), at(".1")],
    ["the id decides where the time does not", at(".5", "a"), at(".5", "b")],
    ["also with zeros cut", at(".50", "a"), at(".5", "b")],
  ])("%s", (_name, before, behind) => {
    expect(comparePositions(before, behind)).toBeLessThan(0);
    expect(comparePositions(behind, before)).toBeGreaterThan(0);
    expect(comparePositions(before, before)).toBe(0);
  });

  test("is that of the microseconds, for any two of them", () => {
    const micros = fc.integer({ min: 0, max: 999_999 });
    const written = (value: number) => at(`.${String(value).padStart(6, "0")}`.replace(/\.?0*$/, ""));
    fc.assert(
      fc.property(micros, micros, (a, b) => {
        expect(Math.sign(comparePositions(written(a), written(b)))).toBe(Math.sign(a - b));
      }),
    );
  });
});

test("the fingerprint tells contexts apart and nothing else (§12.1)", () => {
  const of = (...change: Parameters<typeof assembled>) => contextFingerprint(assembled(...change).request);
  const one = of({ recent: history("u:q", "a:r") });
  expect(one).toMatch(/^[0-9a-f]{16}$/);
  expect(of({ recent: history("u:q", "a:r") })).toBe(one);
  for (const other of [
    of({ recent: history("u:q", "a:s") }),
    of({ recent: history("u:q", "a:r"), userText: "later" }),
    of({ recent: history("u:q", "a:r"), summary: { text: "before", tokenEstimate: 1 } }),
    of({ recent: history("u:qa", "a:r") }),
  ]) {
    expect(other).not.toBe(one);
  }
});
