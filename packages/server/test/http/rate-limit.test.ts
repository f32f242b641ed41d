import fc from "fast-check";
import { expect, test } from "vitest";
import { AppError } from "../../src/errors.ts";
import { createBuckets, createRateLimiter } from "../../src/http/rate-limit.ts";

test("in any span of time at most burst + rate × span requests are admitted", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }),
      (rps, burst, gaps) => {
        let now = 0;
        const buckets = createBuckets({ rps, burst, now: () => now });
        const admitted: number[] = [];
        for (const gap of gaps) {
          now += gap;
          if (buckets.peek("k").waitSecs > 0) continue;
          buckets.take("k");
          admitted.push(now);
        }
        for (const [at, from] of admitted.entries()) {
          for (const [offset, to] of admitted.slice(at).entries()) {
            expect(offset + 1).toBeLessThanOrEqual(burst + ((to - from) / 1000) * rps + 1e-6);
          }
        }
      },
    ),
  );
});

test("waiting as long as told is enough", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5 }), (rps, burst) => {
      let now = 0;
      const buckets = createBuckets({ rps, burst, now: () => now });
      for (let at = 0; at < burst; at += 1) buckets.take("k");
      now += buckets.peek("k").waitSecs * 1000;
      expect(buckets.peek("k").waitSecs).toBe(0);
    }),
  );
});

test("keys beyond a bound are forgotten, full buckets first", () => {
  const buckets = createBuckets({ rps: 1, burst: 2, now: () => 0 });
  for (let at = 0; at < 20_001; at += 1) buckets.take(`k${at}`);
  expect(buckets.peek("k20000").remaining).toBe(1);
  expect(buckets.peek("k0").remaining).toBe(2);
});

const limits = { rps: 1, burst: 2, in_flight: 1, per_user_rps: 1, per_user_burst: 1 };

test("a refused request costs neither the route nor the user a token", () => {
  const limiter = createRateLimiter(limits, () => 0);
  limiter.admit("r", "one");
  expect(() => limiter.admit("r", "one")).toThrow(AppError);
  expect(limiter.look("r").remaining).toBe(1);
  expect(limiter.admit("r", "other").remaining).toBe(0);
});

test("a slot given back twice counts once", () => {
  const limiter = createRateLimiter(limits, () => 0);
  const leave = limiter.enter("r");
  expect(() => limiter.enter("r")).toThrow(AppError);
  leave();
  leave();
  limiter.enter("r");
  expect(() => limiter.enter("r")).toThrow(AppError);
});

test("0 per second switches the limit per user off", () => {
  const limiter = createRateLimiter({ ...limits, per_user_rps: 0 }, () => 0);
  limiter.admit("r", "one");
  expect(limiter.admit("r", "one").limit).toBe(2);
});
