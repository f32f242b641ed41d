import { setTimeout as sleep } from "node:timers/promises";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import type { AuditEnvelope, OutboxEvent } from "../../packages/server/src/outbox/events.ts";
import { done, type Message, type Verdict } from "../../packages/server/src/outbox/message.ts";
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

/** Ten minutes become half a minute: the outage and the longest back-off. The backlog stays whole. */
const TIME_SCALE = 20;
const OUTAGE_MS = 600_000 / TIME_SCALE;
const RETRY_MAX_MS = 60_000 / TIME_SCALE;
const RATE = 50;
const BACKLOG = RATE * 600;
const AROUND_MS = 20_000;

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

const rounds = (count: number): number => Math.max(1, Math.round(count / partitions));

interface Phase {
  readonly audits: number;
}

/**
 * The usage sink goes down and comes back while usage and audit events arrive at 50 per second each. The
 * delay of audit events before, during and after; how long the usage backlog of ten minutes takes to
 * drain.
 */
export const sinkDown = async (url: string): Promise<object> => {
  const db = openDb(url);
  try {
    const outbox = await registered(db, "bench", {
      config: { retry_base_ms: 1_000 / TIME_SCALE, retry_max_ms: RETRY_MAX_MS },
    });
    const around = rounds((RATE * scaled(AROUND_MS, 3_000)) / 1_000) * partitions;
    const during = rounds((RATE * scaled(OUTAGE_MS, 3_000)) / 1_000) * partitions;
    const backlog = rounds(scaled(BACKLOG)) * partitions - during;
    const burst = Math.max(0, Math.round(backlog / partitions)) * partitions;
    const usage = createLedger(partitions, (2 * around + during + burst) / partitions);
    const audit = createLedger(partitions, (2 * around + during) / partitions);
    const beforeOutage = around + during + burst;
    const drained = Promise.withResolvers<number>();
    let down = false;
    const committedAt = new Map<string, number>();
    let delays: number[] = [];
    await outbox.start(
      serving({
        usage: async (messages) => {
          if (down) return messages.map(() => failing);
          for (const message of messages) usage.take(positionOf(message.tenantId), numberOf(message));
          if (usage.taken >= beforeOutage) drained.resolve(nowMs());
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
    );
    let usages = 0;
    let audits = 0;
    const enqueue = async (): Promise<void> => {
      const tenantId = tenants[audits % partitions] ?? "";
      const number = Math.floor(audits / partitions);
      const of = usageEvent(tenants[usages % partitions] ?? "", Math.floor(usages / partitions));
      audits += 1;
      usages += 1;
      await inTransaction(db, async (tx) => {
        void outbox.enqueuer.enqueueMany(tx, [
          { kind: "usage", event: of },
          { kind: "audit", event: auditEvent(tenantId, number) },
        ]);
        tx.afterCommit(() => {
          committedAt.set(`${tenantId} ${number}`, nowMs());
          outbox.flush();
        });
        tx.commitNow();
      });
    };
    const phase = async ({ audits: count }: Phase): Promise<Summary> => {
      delays = [];
      const begin = performance.now();
      for (let at = 0; at < count; at += 1) {
        await sleep(Math.max(0, begin + (at * 1_000) / RATE - performance.now()));
        await enqueue();
      }
      await sleep(500);
      return rounded(summarise(delays));
    };
    const writeBurst = async (): Promise<void> => {
      for (let left = burst; left > 0; left -= partitions) {
        const events = tenants.map((tenantId): OutboxEvent => {
          const event = usageEvent(tenantId, Math.floor(usages / partitions));
          return { kind: "usage", event };
        });
        usages += partitions;
        await inTransaction(db, (tx) => outbox.enqueuer.enqueueMany(tx, events));
      }
      outbox.flush();
      await sleep(1_000);
    };
    const before = await phase({ audits: around });
    down = true;
    await writeBurst();
    const duringOutage = await phase({ audits: during });
    const upAt = nowMs();
    down = false;
    const after = phase({ audits: around });
    const drainedMs = (await drained.promise) - upAt;
    const afterwards = await after;
    await Promise.all([usage.complete, audit.complete]);
    await outbox.stop();
    usage.verify();
    audit.verify();
    await empty(db);
    return {
      time_scale: `1/${TIME_SCALE}`,
      outage_ms: OUTAGE_MS,
      retry_max_ms: RETRY_MAX_MS,
      backlog: burst + during,
      audit_delay_ms: { before, during: duringOutage, after: afterwards },
      drained_after_ms: digits(drainedMs, 0),
      /** With the back-off as configured in production the first probe may come this much later. */
      drained_after_ms_with_full_back_off: digits(drainedMs + RETRY_MAX_MS * (TIME_SCALE - 1), 0),
    };
  } finally {
    await db.close();
  }
};
