import { appendFileSync } from "node:fs";
import { DirectConnection } from "../../src/db/direct.ts";
import { sleep } from "../../src/lib/sleep.ts";
import {
  done,
  type QueueHandler,
  type TransactionalHandler,
  type Verdict,
} from "../../src/outbox/message.ts";
import { createOutbox } from "../../src/outbox/outbox.ts";
import { type Metrics, noMetrics } from "../../src/telemetry/metrics.ts";
import { serving } from "../outbox/support.ts";
import { type Entry, verdictLetters } from "./journal.ts";
import { hashed } from "./plan.ts";
import {
  type Assignment,
  type ChaosKind,
  chaosConfig,
  chaosQueues,
  fateOf,
  numberOfPayload,
  openChaosDb,
  policies,
  sharedNow,
} from "./world.ts";

/**
 * A process that delivers until it is killed or told to stop, and writes down what it is handed, what it
 * answers and which leases it lost. Each line is one write before the fact it tells of takes effect, so
 * a kill leaves no delivery unwritten.
 */
const assignment = JSON.parse(process.argv[2] ?? "") as Assignment;
process.once("disconnect", () => process.exit(1));

const { leaseMs } = assignment;
const db = openChaosDb(assignment.url, 3);
const direct = new DirectConnection({ url: assignment.url });
const queues = chaosQueues(leaseMs);

const write = (entry: Entry): void => appendFileSync(assignment.file, `${JSON.stringify(entry)}\n`);

const metrics: Metrics = {
  ...noMetrics,
  count: (name, labels) => {
    if (name !== "outbox_lease_lost") return;
    const { kind = "" } = (labels ?? {}) as { kind?: string };
    write({ e: "lost", kind, at: sharedNow() });
  },
};

/** Most batches take no time, a few a while, one in two hundred long enough to be killed in. */
const durationMs = (text: string): number => {
  const draw = hashed(`duration ${text}`);
  if (draw < 0.005) return leaseMs / 4;
  return draw < 0.2 ? draw * 100 : 0;
};

let batches = 0;

const handlerOf =
  (kind: ChaosKind): QueueHandler =>
  async (messages, { signal, stopping, deadline }) => {
    batches += 1;
    const batch = batches;
    const headroomMs = queues.override?.[kind]?.headroomMs ?? 0;
    const claimedAt = sharedNow() - (performance.now() - (deadline - leaseMs + headroomMs));
    const numbers = messages.map(({ payload }) => numberOfPayload(payload));
    write({
      e: "take",
      batch,
      kind,
      at: sharedNow(),
      claimedAt,
      partition: messages[0]?.partitionId ?? 0,
      messages: messages.map((m, at) => [
        m.tenantId,
        numbers[at] ?? 0,
        Number(m.id),
        m.messageId,
        m.attempts,
      ]),
    });
    const verdicts: (Verdict | undefined)[] = [];
    const stopped = new Set<string>();
    for (const [at, { tenantId, orderKey, attempts, messageId }] of messages.entries()) {
      const scope = policies[kind] === "block" ? "" : orderKey;
      const ms = durationMs(`${messageId} ${attempts}`);
      if (ms > 0 && !stopped.has(scope)) await sleep(ms, signal);
      if (signal.aborted || stopping.aborted || stopped.has(scope)) {
        stopped.add(scope);
        verdicts.push(undefined);
        continue;
      }
      const fate = fateOf(kind, tenantId, numbers[at] ?? 0);
      const again = fate === "retry_once" && attempts === 1;
      if (again) stopped.add(scope);
      if (fate === "reject") verdicts.push({ kind: "reject", reason: "fated" });
      else verdicts.push(again ? { kind: "retry", error: "fated" } : done);
    }
    write({
      e: "end",
      batch,
      at: sharedNow(),
      verdicts: verdicts.map((verdict) => verdictLetters[verdict?.kind ?? "none"]).join(""),
    });
    return verdicts;
  };

/** Writes down what it did by the transaction that acknowledges it, so that nothing else needs to be. */
const transactional: TransactionalHandler = {
  inTransaction: async ({ tenantId, payload, attempts, messageId }, tx) => {
    const number = numberOfPayload(payload);
    await tx.query("insert into chaos_effect (tenant_id, number) values ($1, $2)", [tenantId, number]);
    const ms = durationMs(`${messageId} ${attempts}`);
    if (ms > 0) await sleep(ms);
    const fate = fateOf("attachment_cleanup", tenantId, number);
    if (fate === "reject") return { kind: "reject", reason: "fated" };
    return fate === "retry_once" && attempts === 1 ? { kind: "retry", error: "fated" } : done;
  },
};

const outbox = createOutbox({
  db,
  direct,
  config: chaosConfig,
  instanceId: assignment.name,
  queues,
  metrics,
  stopTimeoutMs: 1_000,
});

process.once("SIGTERM", async () => {
  await outbox.stop();
  await direct.stop();
  await db.close();
  process.exit(0);
});

await direct.start();
for (;;) {
  try {
    await outbox.register();
    break;
  } catch {
    await sleep(50);
  }
}
await outbox.start(
  serving({
    usage: handlerOf("usage"),
    audit: handlerOf("audit"),
    attachment_cleanup: transactional,
  }),
);
process.send?.("ready");
