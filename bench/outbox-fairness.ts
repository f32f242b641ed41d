import { done, type Message, type QueueHandler } from "../packages/server/src/outbox/message.ts";
import type { QueueKind } from "../packages/server/src/outbox/queue.ts";
import { cpuMs, familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { fillFast, type Share } from "./outbox/fill.ts";
import { numberOf, openDb, partitions, registered, serving, waiting } from "./outbox/queue.ts";
import { scaled, summarise } from "./support.ts";

const MESSAGES = 1_000_000;
const HOT_EVERY = 5;
const HOT_SHARE = 0.8;
const kinds = ["usage", "audit", "attachment_cleanup", "chat_cleanup"] as const;
type Kind = (typeof kinds)[number] & QueueKind;

interface Lane {
  readonly share: Share;
  readonly hot: boolean;
  /** The number that has to come next. */
  next: number;
  servedAt: number;
  worstGapMs: number;
}

/** A fifth of the partitions has four fifths of the messages. */
const lanesOf = (): Lane[] => {
  const places = kinds.flatMap((kind) =>
    Array.from({ length: partitions }, (_, partition) => ({ kind, partition })),
  );
  const hotCount = Math.ceil(places.length / HOT_EVERY);
  const hotSize = scaled((MESSAGES * HOT_SHARE) / hotCount);
  const coldSize = scaled((MESSAGES * (1 - HOT_SHARE)) / (places.length - hotCount));
  return places.map(({ kind, partition }, at) => {
    const hot = at % HOT_EVERY === 0;
    const share = { kind, partition, count: hot ? hotSize : coldSize };
    return { share, hot, next: 0, servedAt: 0, worstGapMs: 0 };
  });
};

/**
 * Four queues of 64 partitions with a million messages waiting, four fifths of them in a fifth of the
 * partitions, drained by one process: the longest that a partition with waiting messages was not served.
 * Fails when a message is missing, comes twice or comes out of order.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server) => {
    const db = openDb(server.url);
    try {
      const outbox = await registered(db, "bench");
      const lanes = lanesOf();
      const total = lanes.reduce((sum, { share }) => sum + share.count, 0);
      await fillFast(
        db,
        lanes.map(({ share }) => share),
      );
      await db.query("vacuum analyze outbox_message");
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const all = Promise.withResolvers<void>();
      let left = total;
      const take = (kind: Kind, messages: readonly Message[]): void => {
        const now = performance.now();
        const partition = Number.parseInt(messages[0]?.tenantId.slice(-2) ?? "", 16) % partitions;
        const lane = lanes[kinds.indexOf(kind) * partitions + partition];
        if (lane === undefined) throw new Error(`no partition ${partition}`);
        lane.worstGapMs = Math.max(lane.worstGapMs, now - lane.servedAt);
        lane.servedAt = now;
        for (const message of messages) {
          const number = numberOf(message);
          if (number !== lane.next)
            all.reject(new Error(`${kind} ${partition}: ${number} instead of ${lane.next}`));
          lane.next += 1;
        }
        left -= messages.length;
        if (left === 0) all.resolve();
      };
      const handler =
        (kind: Kind): QueueHandler =>
        async (messages) => {
          take(kind, messages);
          return messages.map(() => done);
        };
      const begin = performance.now();
      for (const lane of lanes) lane.servedAt = begin;
      await outbox.start(serving(Object.fromEntries(kinds.map((kind) => [kind, handler(kind)]))));
      await all.promise;
      await outbox.stop();
      const seconds = (performance.now() - begin) / 1_000;
      const unacknowledged = await waiting(db);
      if (unacknowledged !== 0) throw new Error(`${unacknowledged} messages were not acknowledged`);
      const gaps = (hot: boolean) =>
        rounded(summarise(lanes.filter((lane) => lane.hot === hot).map(({ worstGapMs }) => worstGapMs)));
      return {
        messages: total,
        partitions: lanes.length,
        drained_per_second: Math.round(total / seconds),
        longest_unserved_ms: { hot: gaps(true), cold: gaps(false) },
        machine: machine(),
      };
    } finally {
      await db.close();
    }
  });
