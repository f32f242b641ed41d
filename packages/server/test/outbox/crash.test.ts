import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import type { Outbox } from "../../src/outbox/outbox.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  eventually,
  recorder,
  registeredOutbox,
  serving,
  tenantOf,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
let directory: string;
const children = new Set<ChildProcess>();
const started: Outbox[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  directory = await mkdtemp(join(tmpdir(), "outbox-crash-"));
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  await Promise.all(started.splice(0).map((outbox) => outbox.stop()));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
  await database.drop();
});

interface Line {
  readonly tenantId: string;
  readonly number: number;
  readonly messageId: string;
}

/** A worker process and what it has taken on so far. */
const spawnWorker = async (mode: "hang" | "deliver") => {
  const file = join(directory, `${mode}-${children.size}.log`);
  await writeFile(file, "");
  const child = fork(new URL("crash-worker.ts", import.meta.url), [database.url, file, mode], {
    execArgv: [],
    stdio: "inherit",
  });
  children.add(child);
  await once(child, "message");
  return {
    taken: async (): Promise<Line[]> =>
      (await readFile(file, "utf8"))
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => {
          const [tenantId = "", number = "", messageId = ""] = line.split(" ");
          return { tenantId, number: Number(number), messageId };
        }),
    kill: async () => {
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await exited;
    },
  };
};

const survivor = async (handlerOf: ReturnType<typeof recorder>) => {
  const outbox = await registeredOutbox(db, {
    instanceId: "survivor",
    queues: { override: { usage: { leaseMs: 1_000, headroomMs: 200 } } },
  });
  started.push(outbox);
  await outbox.start(serving({ usage: handlerOf.handler }));
  return outbox;
};

describe("kill -9 of a worker (outbox.md §15)", () => {
  it("between claim and acknowledgement: its messages come again, with the crash counted as an attempt", async () => {
    const producer = await registeredOutbox(db);
    const worker = await spawnWorker("hang");
    const tenant = tenantOf(0);
    await enqueueNumbers(producer, db, tenant, [1]);
    await eventually(async () => (await worker.taken()).length > 0);
    await enqueueNumbers(producer, db, tenant, [2, 3]);
    await worker.kill();
    const record = recorder();
    await survivor(record);
    await drained(db);
    expect(record.seen.map(({ number }) => number)).toEqual([1, 2, 3]);
    expect(record.seen[0]?.attempts).toBe(2);
    expect(record.seen[0]?.messageId).toBe((await worker.taken())[0]?.messageId);
  });

  it("at load: nothing lost, order kept, only what was unacknowledged comes twice", async () => {
    const producer = await registeredOutbox(db);
    const [doomed, other] = [await spawnWorker("deliver"), await spawnWorker("deliver")];
    const tenants = [0, 1, 2, 3].map(tenantOf);
    const numbers = Array.from({ length: 150 }, (_, at) => at);
    const producing = Promise.all(tenants.map((tenant) => enqueueNumbers(producer, db, tenant, numbers)));
    await eventually(async () => (await doomed.taken()).length > 20);
    await doomed.kill();
    await producing;
    await drained(db);
    const taken = [...(await doomed.taken()), ...(await other.taken())];
    const ids = new Set(taken.map(({ messageId }) => messageId));
    expect(ids.size).toBe(tenants.length * numbers.length);
    for (const tenant of tenants) {
      // Within each process numbers ascend; a repeat after the crash starts where the survivor took over.
      for (const worker of [doomed, other]) {
        const own = (await worker.taken())
          .filter(({ tenantId }) => tenantId === tenant)
          .map(({ number }) => number);
        expect(own).toEqual([...own].sort((a, b) => a - b));
        expect(new Set(own).size).toBe(own.length);
      }
    }
    expect(await countRows(db, "outbox_dead")).toBe(0);
  });

  it("every time on one message: it becomes a dead letter once its attempts are used up", async () => {
    const producer = await registeredOutbox(db);
    await enqueueNumbers(producer, db, tenantOf(1), [1, 2]);
    for (let crash = 0; crash < 2; crash += 1) {
      const worker = await spawnWorker("hang");
      await eventually(async () => (await worker.taken()).length > 0);
      await worker.kill();
      await db.query(
        "update outbox_partition set lease_until = now() - interval '1 ms' where lease_token is not null",
      );
    }
    const record = recorder();
    const outbox = await registeredOutbox(db, { queues: { override: { usage: { maxAttempts: 2 } } } });
    started.push(outbox);
    await outbox.start(serving({ usage: record.handler }));
    await drained(db);
    expect(record.seen.map(({ number }) => number)).toEqual([2]);
    const { rows } = await db.query<{ error: string }>("select error from outbox_dead");
    expect(rows).toEqual([{ error: "max attempts (2) reached: the worker died while handling it" }]);
  });
});
