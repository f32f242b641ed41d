import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { startLeaderJob } from "../../src/app/jobs.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.999);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const runsOf = async (intervalMs: number, afterMs: number): Promise<number> => {
  let runs = 0;
  const job = startLeaderJob(
    {
      direct: {
        withLock: async (_id, work) => {
          await work(new AbortController().signal);
          return true;
        },
      },
      metrics: noMetrics,
      logger: noLogger,
    },
    {
      name: "a job",
      lockId: 1,
      intervalMs,
      run: async () => {
        runs += 1;
      },
    },
  );
  await vi.advanceTimersByTimeAsync(afterMs);
  await job.stop();
  return runs;
};

const minute = 60_000;

test.each([
  ["a job of every minute", minute],
  ["a job of every hour", 60 * minute],
  ["a job of every day", 1_440 * minute],
])("%s first runs within five minutes of the start: a process may not live for a day", async (_name, ms) => {
  expect(await runsOf(ms, 5 * minute)).toBeGreaterThan(0);
});

test("it starts at random, and then keeps its interval", async () => {
  expect(await runsOf(60 * minute, 4 * minute)).toBe(0);
  expect(await runsOf(60 * minute, 66 * minute)).toBe(2);
});
