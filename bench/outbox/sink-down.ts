import { setTimeout as sleep } from "node:timers/promises";
import type { Db } from "../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import type { AuditEnvelope, OutboxEvent } from "../../packages/server/src/outbox/events.ts";
import { done, type Message, type Verdict } from "../../packages/server/src/outbox/message.ts";
import type { Outbox } from "../../packages/server/src/outbox/outbox.ts";
import { digits, nowNs, rounded } from "../harness/measure.ts";
import { type Summary, scaled, summarise } from "../support.ts";
import { createLedger } from "./ledger.ts";
import {
  empty,
  numberOf,
  openDb,
  partitions,
  positionOf,
  registered,
  serving,
  tenants,
  usageEvent,
} from "./queue.ts";

const OUTAGE_MS = 600_000;
const RETRY_BASE_MS = 1_000;
const RETRY_MAX_MS = 60_000;
const RATE = 50;
const BACKLOG = RATE * 600;
const AROUND_MS = 60_000;

const nowMs = (): number => Number(nowNs()) / 1e6;
const failing: Verdict = { kind: "retry", error: "the sink is down" };

const auditEvent = (tenantId: string, number: number): AuditEnvelope => ({
  type: "delete",
  event_type: "turn_delete",
  timestamp: "2026-03-01T10:15:31.204Z",
  requester_type: "user",
  tenant_id: tenantId,
  actor_user_id: "22222222-2222-4222-8222-222222222222",
  chat_id: "01890000-0000-7000-8000-000000000003",
  turn_id: "44444444-4444-4444-8444-444444444444",
  request_id: `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`,
});

const auditNumberOf = ({ payload }: Message): number => {
  const { request_id: id } = JSON.parse(payload) as { request_id: string };
  return Number.parseInt(id.slice(-12), 16);
};

/** How many messages of each kind: whole rounds over all tenants. */
interface Plan {
  /** Before the outage and again after it, of usage and audit each. */
  readonly around: number;
  readonly during: number;
  /** Of usage: what the scaled outage is too short to bring in. */
  readonly burst: number;
}

const whole = (count: number): number => Math.max(1, Math.round(count / partitions)) * partitions;

const planOf = (timeScale: number): Plan => {
  const around = whole((RATE * scaled(AROUND_MS, 3_000)) / 1_000);
  const during = whole((RATE * scaled(OUTAGE_MS / timeScale, 3_000)) / 1_000);
  return { around, during, burst: Math.max(0, whole(scaled(BACKLOG)) - during) };
};

/** Both receivers, of which the one for usage can be down. */
const createSinks = ({ around, during, burst }: Plan) => {
  const usage = createLedger(partitions, (2 * around + during + burst) / partitions);
  const audit = createLedger(partitions, (2 * around + during) / partitions);
  const drained = Promise.withResolvers<number>();
  const committedAt = new Map<string, number>();
  const perTenant = (around + during + burst) / partitions;
  let awaited = perTenant * partitions;
  let delays: number[] = [];
  const state = { down: false };
  return {
    state,
    /** When the last usage event that was committed before the end of the outage arrived. */
    drained: drained.promise,
    committed: (tenantId: string, number: number) => committedAt.set(`${tenantId} ${number}`, nowMs()),
    /** The delays since the last call. */
    takeDelays: (): number[] => {
      const taken = delays;
      delays = [];
      return taken;
    },
    handlers: serving({
      usage: async (messages) => {
        if (state.down) return messages.map(() => failing);
        for (const message of messages) {
          const number = numberOf(message);
          usage.take(positionOf(message.tenantId), number);
          if (number < perTenant) awaited -= 1;
        }
        if (awaited === 0) drained.resolve(nowMs());
        return messages.map(() => done);
      },
      audit: async (messages) => {
        const at = nowMs();
        for (const message of messages) {
          const number = auditNumberOf(message);
          audit.take(positionOf(message.tenantId), number);
          delays.push(at - (committedAt.get(`${message.tenantId} ${number}`) ?? at));
        }
        return messages.map(() => done);
      },
    }),
    complete: Promise.all([usage.complete, audit.complete]),
    verify: () => {
      usage.verify();
      audit.verify();
    },
  };
};

/** Writes usage and audit events side by side, numbered per tenant. */
const createLoad = (db: Db, outbox: Outbox, sinks: ReturnType<typeof createSinks>) => {
  let usages = 0;
  let audits = 0;
  const one = async (): Promise<void> => {
    const tenantId = tenants[audits % partitions] ?? "";
    const number = Math.floor(audits / partitions);
    const usage = usageEvent(tenants[usages % partitions] ?? "", Math.floor(usages / partitions));
    audits += 1;
    usages += 1;
    await inTransaction(db, async (tx) => {
      void outbox.enqueuer.enqueueMany(tx, [
        { kind: "usage", event: usage },
        { kind: "audit", event: auditEvent(tenantId, number) },
      ]);
      tx.afterCommit(() => {
        sinks.committed(tenantId, number);
        outbox.flush();
      });
      tx.commitNow();
    });
  };
  return {
    /** `count` of each at the rate; the delays of the audit events. */
    phase: async (count: number): Promise<Summary> => {
      sinks.takeDelays();
      const begin = performance.now();
      for (let at = 0; at < count; at += 1) {
        await sleep(Math.max(0, begin + (at * 1_000) / RATE - performance.now()));
        await one();
      }
      await sleep(500);
      return rounded(summarise(sinks.takeDelays()));
    },
    /** Usage events as fast as it goes. */
    burst: async (count: number): Promise<void> => {
      for (let left = count; left > 0; left -= partitions) {
        const number = Math.floor(usages / partitions);
        const events = tenants.map(
          (tenantId): OutboxEvent => ({ kind: "usage", event: usageEvent(tenantId, number) }),
        );
        usages += partitions;
        await inTransaction(db, (tx) => outbox.enqueuer.enqueueMany(tx, events));
      }
      outbox.flush();
      await sleep(1_000);
    },
  };
};

/**
 * The usage sink goes down and comes back while usage and audit events arrive at 50 per second each. The
 * delay of audit events before, during and after; how long the usage backlog of ten minutes takes to
 * drain. The outage and the back-off are `timeScale` times shorter than in life, so that failures come
 * that much more often; the backlog stays whole.
 */
export const sinkDown = async (url: string, timeScale: number): Promise<object> => {
  const db = openDb(url);
  try {
    const plan = planOf(timeScale);
    const retryMaxMs = RETRY_MAX_MS / timeScale;
    const config = { retry_base_ms: RETRY_BASE_MS / timeScale, retry_max_ms: retryMaxMs };
    const outbox = await registered(db, "bench", { config });
    const sinks = createSinks(plan);
    const load = createLoad(db, outbox, sinks);
    await outbox.start(sinks.handlers);
    const before = await load.phase(plan.around);
    sinks.state.down = true;
    await load.burst(plan.burst);
    const during = await load.phase(plan.during);
    const upAt = nowMs();
    sinks.state.down = false;
    const after = load.phase(plan.around);
    const drainedMs = (await sinks.drained) - upAt;
    const delays = { before, during, after: await after };
    await sinks.complete;
    await outbox.stop();
    sinks.verify();
    await empty(db);
    return {
      time_scale: `1/${timeScale}`,
      outage_ms: OUTAGE_MS / timeScale,
      retry_max_ms: retryMaxMs,
      backlog: plan.burst + plan.during,
      audit_delay_ms: delays,
      drained_after_ms: digits(drainedMs, 0),
      /** With the back-off as configured in production the first probe may come this much later. */
      drained_after_ms_with_full_back_off: digits(drainedMs + RETRY_MAX_MS - retryMaxMs, 0),
    };
  } finally {
    await db.close();
  }
};
