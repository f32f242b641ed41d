import { type Db, sqlState } from "../db/pool.ts";
import type { Metrics } from "../telemetry/metrics.ts";

const sampleMs = 100;

/** Observes statements, samples the event loop's lag and the use of the pool (ops.md §5) until stopped. */
export const startProcessMetrics = (db: Db, metrics: Metrics): (() => void) => {
  let due = performance.now() + sampleMs;
  const timer = setInterval(() => {
    const now = performance.now();
    metrics.observe("event_loop_lag_ms", {}, Math.max(0, now - due));
    due = now + sampleMs;
    metrics.set("db_pool_in_use", {}, db.pool.totalCount - db.pool.idleCount);
    metrics.set("db_pool_waiting", {}, db.pool.waitingCount);
  }, sampleMs);
  timer.unref();
  db.onStatement = (query, ms, error) => {
    metrics.observe("db_query_latency_ms", { query }, ms);
    if (error !== undefined)
      metrics.count("db_errors", { query, code: sqlState(error)?.slice(0, 2) ?? "none" });
  };
  return () => {
    db.onStatement = undefined;
    clearInterval(timer);
  };
};
