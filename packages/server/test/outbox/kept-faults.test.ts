import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { done } from "../../src/outbox/message.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  freshOutbox,
  ownOutboxes,
  serving,
  signal,
  tenantOf,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(() => freshOutbox(db));
afterEach(async () => {
  vi.restoreAllMocks();
  await stopAll();
});
afterAll(() => database.drop());

type Fault = "answer lost" | "not sent" | "refused";

const lost = () => Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });

/** Faults of the first exchange that acknowledges something and claims; how many there were. */
const breakFirstExchange = (faults: { settle?: Fault; claim?: Fault }): { readonly count: number } => {
  const broken = { count: 0 };
  const run = db.run.bind(db);
  let settling = false;
  const failing = async (fault: Fault, running: () => Promise<unknown>): Promise<never> => {
    if (fault === "answer lost") await running();
    throw fault === "refused" ? new Error("canceling statement due to lock timeout") : lost();
  };
  vi.spyOn(db, "run").mockImplementation((client, statement, values) => {
    const name = typeof statement === "string" ? statement : statement.name;
    const send = () => run<never>(client, statement, values);
    if (name === "outbox_settle" && broken.count === 0) {
      settling = true;
      if (faults.settle !== undefined) return failing(faults.settle, send);
    }
    if (name === "outbox_claim" && settling) {
      settling = false;
      broken.count += 1;
      if (faults.claim !== undefined && broken.count === 1) return failing(faults.claim, send);
    }
    return send();
  });
  return broken;
};

const numbers = Array.from({ length: 40 }, (_, at) => at);
const leased = async (): Promise<number> =>
  (await db.query("select from outbox_partition where lease_token is not null")).rows.length;

describe("a lease kept over an exchange that fails (outbox-engine.md, Acknowledge)", () => {
  it.each([
    { settle: "answer lost", claim: "not sent" },
    { settle: "not sent", claim: "not sent" },
    { settle: "refused" },
    { settle: "refused", claim: "refused" },
    { claim: "not sent" },
    { claim: "refused" },
  ] as const)("is taken up again long before it runs out: %j", { timeout: 10_000 }, async (faults) => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    const broken = breakFirstExchange(faults);
    await outbox.start(serving({ usage: async (batch) => batch.map(() => done) }));
    await drained(db);
    expect(broken.count).toBeGreaterThan(0);
  });

  it.each([
    { settle: "answer lost", claim: "not sent" },
    { settle: "not sent", claim: "not sent" },
    { settle: "refused" },
    { claim: "not sent" },
    { claim: "refused" },
  ] as const)("is freed by a stop: %j", { timeout: 10_000 }, async (faults) => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    const [entered, release] = [signal(), signal()];
    await outbox.start(
      serving({
        usage: async (batch) => {
          entered.give();
          await release.given;
          return batch.map(() => done);
        },
      }),
    );
    await entered.given;
    const broken = breakFirstExchange(faults);
    const stopped = outbox.stop();
    release.give();
    await stopped;
    expect(broken.count).toBeGreaterThan(0);
    expect(await leased()).toBe(0);
    expect(await countRows(db, "outbox_message")).toBe(30);
  });
});
