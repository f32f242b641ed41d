import type { Db } from "../../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../../packages/server/src/db/tx.ts";
import { done } from "../../../packages/server/src/outbox/message.ts";
import type { Outbox } from "../../../packages/server/src/outbox/outbox.ts";
import { empty, numberOf, openDb, positionOf, registered, serving, waiting } from "../queue.ts";
import { type Contender, payloadOf } from "./contender.ts";

/** The outbox of this repository with its default configuration and 64 partitions. */
export const miniChat = (): Contender => {
  let db: Db | undefined;
  let outbox: Outbox | undefined;
  const opened = (): { db: Db; outbox: Outbox } => {
    if (db === undefined || outbox === undefined) throw new Error("not installed");
    return { db, outbox };
  };
  return {
    name: "mini_chat",
    set_up: "64 partitions, defaults; order per key",
    share: 1,
    install: async (url) => {
      db = openDb(url);
      outbox = await registered(db, "bench");
    },
    enqueue: async (key, numbers) => {
      const own = opened();
      await inTransaction(own.db, (tx) =>
        own.outbox.enqueuer.enqueueMany(
          tx,
          numbers.map((number) => ({ kind: "usage", event: payloadOf(key, number) }) as const),
        ),
      );
    },
    enqueueWith: null,
    start: async (_, take) => {
      await opened().outbox.start(
        serving({
          usage: async (messages) => {
            for (const message of messages) take(positionOf(message.tenantId), numberOf(message));
            return messages.map(() => done);
          },
        }),
      );
    },
    left: () => waiting(opened().db),
    stop: () => opened().outbox.stop(),
    uninstall: async () => {
      await empty(opened().db);
      await opened().db.close();
    },
  };
};
