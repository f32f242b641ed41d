import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { DirectConnection } from "../../packages/server/src/db/direct.ts";
import type { Db } from "../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import { digits, rounded } from "../harness/measure.ts";
import { type Summary, scaled, summarise } from "../support.ts";
import { createLedger } from "./ledger.ts";
import { empty, noting, openDb, partitions, registered, serving } from "./queue.ts";

const RATE = 400;
const SECONDS = 15;
const REQUEST_EVERY_MS = 10;

/** Small transactions at a steady pace on the pool, in ms with the wait for the connection. */
const request = async (db: Db, at: number): Promise<number> => {
  const begin = performance.now();
  await inTransaction(db, async (tx) => {
    await tx.query("select n from bench_request where id = $1 for update", [at % 64]);
    await tx.query("update bench_request set n = n + 1 where id = $1", [at % 64]);
  });
  return performance.now() - begin;
};

const requests = async (db: Db, until: () => boolean): Promise<Summary> => {
  const samples: Promise<number>[] = [];
  const begin = performance.now();
  for (let at = 0; !until(); at += 1) {
    samples.push(request(db, at));
    await sleep(Math.max(0, begin + (at + 1) * REQUEST_EVERY_MS - performance.now()));
  }
  return rounded(summarise(await Promise.all(samples)));
};

/** A process whose pool has one connection for requests and deliveries alike (O9). */
export const poolOfOne = async (url: string): Promise<object> => {
  const db = openDb(url, 1);
  const direct = new DirectConnection({ url });
  await direct.start();
  try {
    await db.query("create table bench_request (id int primary key, n int not null)");
    await db.query("insert into bench_request select id, 0 from generate_series(0, 63) id");
    const perTenant = Math.ceil((RATE * scaled(SECONDS, 2)) / partitions);
    const total = perTenant * partitions;
    const ledger = createLedger(partitions, perTenant);
    const outbox = await registered(db, "bench", { direct });
    await outbox.start(serving({ usage: noting(ledger) }));
    const idleUntil = performance.now() + scaled(SECONDS, 2) * 1_000;
    const alone = await requests(db, () => performance.now() > idleUntil);
    const producer = fork(new URL("producer.ts", import.meta.url), [url, `${total}`, `${RATE}`], {
      execArgv: [],
    });
    await once(producer, "message");
    const begin = performance.now();
    let delivered = false;
    void ledger.complete.then(() => {
      delivered = true;
    });
    producer.send("begin");
    const beside = await requests(db, () => delivered);
    const seconds = (performance.now() - begin) / 1_000;
    await outbox.stop();
    ledger.verify();
    await empty(db);
    return {
      delivered_per_second: digits(total / seconds, 0),
      request_ms: { without_messages: alone, with_messages: beside },
      request_p99_added_ms: digits(beside.p99 - alone.p99),
    };
  } finally {
    await direct.stop();
    await db.close();
  }
};
