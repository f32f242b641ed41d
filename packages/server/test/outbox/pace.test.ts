import fc from "fast-check";
import { expect, test } from "vitest";
import { createPace } from "../../src/outbox/pace.ts";

/** Passes that each take no time and start as soon as they may; when they started. */
const starts = (pace: ReturnType<typeof createPace>, from: number, count: number): number[] => {
  const at: number[] = [];
  for (let now = from, pass = 0; pass < count; pass += 1) {
    at.push(now - from);
    now += pace.waitMs(now, now);
  }
  return at;
};

test("a few passes follow the first at once, then they are the spacing apart", () => {
  expect(starts(createPace(5, 4), 1_000, 8)).toEqual([0, 0, 0, 0, 0, 5, 10, 15]);
});

test("after a rest they may again", () => {
  const pace = createPace(5, 4);
  starts(pace, 1_000, 50);
  expect(starts(pace, 2_000, 6)).toEqual([0, 0, 0, 0, 0, 5]);
});

test("no wait is longer than the spacing, whatever passes came before", () => {
  const passes = fc.array(fc.record({ rest: fc.nat(50), took: fc.nat(20) }), { maxLength: 200 });
  fc.assert(
    fc.property(passes, (history) => {
      const pace = createPace(5, 4);
      let now = 0;
      for (const { rest, took } of history) {
        const startedAt = now + rest;
        now = startedAt + took;
        const wait = pace.waitMs(startedAt, now);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(5);
      }
    }),
  );
});
