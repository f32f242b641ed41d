import { DirectConnection } from "../../src/db/direct.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { sleep } from "../../src/lib/sleep.ts";
import { createOutbox } from "../../src/outbox/outbox.ts";
import { between, hashed, seeded } from "./plan.ts";
import {
  type Assignment,
  type ChaosKind,
  chaosConfig,
  chaosKinds,
  chaosQueues,
  numberedEvent,
  openChaosDb,
  tenantsOf,
} from "./world.ts";

/**
 * A process that writes until it is killed. The number of a message comes from a row of `chaos_key` that
 * its transaction has locked, so the numbers of a key are its causal order (outbox-engine.md O4) and
 * the row says afterwards how many of them were committed, whatever became of their producers.
 */
const assignment = JSON.parse(process.argv[2] ?? "") as Assignment;
process.once("disconnect", () => process.exit(1));

const lanes = 4;
const db = openChaosDb(assignment.url, lanes);
const direct = new DirectConnection({ url: assignment.url });
const outbox = createOutbox({
  db,
  direct,
  config: chaosConfig,
  instanceId: assignment.name,
  queues: chaosQueues(assignment.leaseMs),
});
const tenants = tenantsOf(assignment.seed);

interface Key {
  readonly kind: ChaosKind;
  readonly tenantId: string;
  readonly count: number;
}

class Undone extends Error {}

const takeNumbers = async (tx: Tx, { kind, tenantId, count }: Key): Promise<number[]> => {
  const { rows } = await tx.query<{ n: number }>(
    "update chaos_key set n = n + $3 where kind = $1 and tenant_id = $2 returning n",
    [kind, tenantId, count],
  );
  const last = rows[0]?.n ?? Number.NaN;
  return Array.from({ length: count }, (_, at) => last - count + 1 + at);
};

/** One transaction of a lane; some stay open while others overtake them, some are rolled back. */
const produce = async (keys: readonly Key[], openMs: number, undo: boolean): Promise<void> => {
  await inTransaction(db, async (tx) => {
    const events = [];
    for (const key of keys) {
      const numbers = await takeNumbers(tx, key);
      events.push(...numbers.map((number) => numberedEvent(key.kind, key.tenantId, number)));
    }
    await outbox.enqueuer.enqueueMany(tx, events);
    if (openMs > 0) await sleep(openMs);
    if (undo) throw new Undone();
  });
};

const lane = async (number: number): Promise<void> => {
  const random = seeded(Math.floor(hashed(`${assignment.seed} ${assignment.name} ${number}`) * 0xffffffff));
  const pick = (): Key => ({
    kind: chaosKinds[between(random, 0, chaosKinds.length - 1)] ?? "usage",
    tenantId: tenants[between(random, 0, tenants.length - 1)] ?? "",
    count: between(random, 1, 4),
  });
  const place = ({ kind, tenantId }: Key): string => `${kind} ${tenantId}`;
  for (;;) {
    const [first, second] = [pick(), pick()];
    const both = random() < 0.2 && place(first) !== place(second);
    // In one order everywhere, or two lanes would wait for each other.
    const keys = both ? [first, second].sort((a, b) => (place(a) < place(b) ? -1 : 1)) : [first];
    const openMs = random() < 0.04 ? between(random, 50, 300) : 0;
    const undo = random() < 0.05;
    const flush = random() < 0.9;
    const pauseMs = between(random, 0, 40);
    try {
      await produce(keys, openMs, undo);
      // Without it a message waits for a poll, as after a crash between commit and flush (outbox.md §15).
      if (flush) outbox.flush();
    } catch (error) {
      // The database is away, or said nothing about the commit: the row knows.
      if (!(error instanceof Undone)) await sleep(50);
    }
    await sleep(pauseMs);
  }
};

await direct.start();
for (;;) {
  try {
    await outbox.register();
    break;
  } catch {
    await sleep(50);
  }
}
process.send?.("ready");
await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
