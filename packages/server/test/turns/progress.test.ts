import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { asTenantId } from "../../src/auth/actor.ts";
import { Db } from "../../src/db/pool.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { RunningTurns } from "../../src/turns/cancellation.ts";
import { startProgressClock } from "../../src/turns/progress.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("a failed write is tried again before the shortest lease is over, until it is stopped", async () => {
  // Nobody listens there.
  const db = new Db({
    url: "postgresql://nobody@127.0.0.1:1/none",
    maxConnections: 1,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 15_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
  });
  const running = new RunningTurns();
  const turnId = uuidV4();
  running.add(turnId, asTenantId(uuidV4()));
  running.setGenerating(turnId, true);
  let failures = Promise.withResolvers<void>();
  const warn = vi.fn(() => failures.resolve());
  const stop = startProgressClock({ db, running, logger: { ...noLogger, warn } });
  try {
    for (const waitedMs of [30_000, 5_000, 5_000]) {
      failures = Promise.withResolvers<void>();
      vi.advanceTimersByTime(waitedMs - 1);
      const before = warn.mock.calls.length;
      vi.advanceTimersByTime(1);
      await failures.promise;
      expect(warn).toHaveBeenCalledTimes(before + 1);
      // Its next try is waited for from here on.
      await vi.waitUntil(() => vi.getTimerCount() > 0);
    }
  } finally {
    stop();
    await db.close();
  }
  expect(vi.getTimerCount()).toBe(0);
});
