import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { creditsMicro } from "../../src/quota/credits.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type UsageRow, usageRows } from "./rows.ts";
import { admitted, type End, end, model, newActor, type SentTurn, send } from "./support.ts";

/** The invariants of quota.md §16 that the rows keep, over random histories against the database. */

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 20 });
});
afterAll(() => database.drop());

const dear = { inputMultiplierMicro: 3_000_000n, outputMultiplierMicro: 15_000_000n };
const models = {
  standard: model({ id: "S", tier: "standard", maxOutputTokens: 64 }),
  premium: model({ id: "P", tier: "premium", maxOutputTokens: 64, ...dear }),
};

/** A turn of a history: when it starts, what it reserves, how it ends, and after how many further steps. */
const turns = fc.record({
  tier: fc.constantFrom("standard" as const, "premium" as const),
  startedAt: fc.constantFrom(
    "2026-02-27T12:00:00Z",
    "2026-02-28T23:59:59.9Z",
    "2026-03-01T00:00:00Z",
    "2026-03-02T08:00:00Z",
  ),
  input: fc.bigInt(0n, 5_000n),
  images: fc.nat(3),
  after: fc.nat(2),
  ending: fc.oneof(
    fc.record({ inputTokens: fc.nat(6_000), outputTokens: fc.nat(200) }).map((usage): End => ({ usage })),
    fc.constant<End>({ state: "cancelled" }),
    fc.constant<End>({ state: "failed", errorCode: "provider_error", started: false }),
    fc.constant<End>({ state: "failed", errorCode: "orphan_timeout" }),
  ),
});
type Planned = typeof turns extends fc.Arbitrary<infer T> ? T : never;

/** Steps of one to six turns; those of a step run at once. */
const histories = fc.array(fc.array(turns, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 });

interface Account {
  readonly planned: Planned;
  readonly turn: SentTurn;
  /** Null while it runs. */
  spent: bigint | null;
}

const keysOf = ({ tier, startedAt }: Planned): string[] => {
  const day = startedAt.slice(0, 10);
  const periods = [`daily ${day}`, `monthly ${day.slice(0, 7)}-01`];
  const buckets = tier === "premium" ? ["total", "tier:premium"] : ["total"];
  return buckets.flatMap((bucket) => periods.map((period) => `${bucket} ${period}`));
};

/** The rows as the turns alone determine them. */
const expected = (accounts: readonly Account[]) => {
  const rows = new Map<string, { spent: bigint; reserved: bigint; calls: number; images: number }>();
  for (const { planned, turn, spent } of accounts) {
    for (const key of keysOf(planned)) {
      const row = rows.get(key) ?? { spent: 0n, reserved: 0n, calls: 0, images: 0 };
      rows.set(key, {
        spent: row.spent + (spent ?? 0n),
        reserved: row.reserved + (spent === null ? turn.reserve.reservedCreditsMicro : 0n),
        calls: row.calls + (spent === null ? 0 : 1),
        images: row.images + (key.startsWith("total") ? planned.images : 0),
      });
    }
  }
  return rows;
};

const actual = (rows: readonly UsageRow[]) =>
  new Map(
    rows.map(({ bucket, period, start, spent, reserved, calls, images }) => [
      `${bucket} ${period} ${start}`,
      { spent, reserved, calls, images },
    ]),
  );

const begin = async (actor: Actor, planned: Planned): Promise<Account> => {
  const sent = await send(database.db, actor, {
    models: [models[planned.tier]],
    estimatedInputTokens: planned.input,
    images: planned.images,
    startedAt: planned.startedAt,
  });
  return { planned, turn: admitted(sent), spent: null };
};

const finish = async (account: Account): Promise<void> => {
  const { bill, anomalies } = await end(database.db, account.turn, account.planned.ending);
  expect(anomalies).toEqual([]);
  const { reserve } = account.turn;
  if (bill.method !== "actual" || bill.overshootCapped) {
    expect(bill.committedCreditsMicro <= reserve.reservedCreditsMicro).toBe(true);
  }
  account.spent = bill.committedCreditsMicro;
};

test("§16.3, §16.6: after any history every row is the sum of its turns, premium inside total", async () => {
  await fc.assert(
    fc.asyncProperty(histories, async (history) => {
      const actor = newActor();
      const accounts: Account[] = [];
      const due: { account: Account; at: number }[] = [];
      for (let step = 0; step < history.length + 3; step += 1) {
        const ending = due.filter(({ at }) => at === step);
        const [begun] = await Promise.all([
          Promise.all((history[step] ?? []).map((planned) => begin(actor, planned))),
          Promise.all(ending.map(({ account }) => finish(account))),
        ]);
        accounts.push(...begun);
        due.push(...begun.map((account) => ({ account, at: step + 1 + account.planned.after })));
        expect(actual(await usageRows(database.db, actor))).toEqual(expected(accounts));
      }
      const rows = await usageRows(database.db, actor);
      expect(rows.every((row) => row.reserved === 0n)).toBe(true);
    }),
    { numRuns: 25 },
  );
});

test("§16.6: where all turns are premium, the premium rows are the total rows", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(turns, { minLength: 1, maxLength: 6 }), async (history) => {
      const actor = newActor();
      const accounts = await Promise.all(
        history.map((planned) => begin(actor, { ...planned, tier: "premium", images: 0 })),
      );
      await Promise.all(accounts.filter(({ planned }) => planned.after > 0).map(finish));
      const rows = await usageRows(database.db, actor);
      const of = (bucket: UsageRow["bucket"]) =>
        rows
          .filter((row) => row.bucket === bucket)
          .map(({ period, start, spent, reserved, calls }) => ({ period, start, spent, reserved, calls }));
      expect(of("tier:premium")).toEqual(of("total"));
    }),
    { numRuns: 25 },
  );
});

test("§16.4: only an uncapped actual settlement can raise spent + reserved of a row", async () => {
  await fc.assert(
    fc.asyncProperty(turns, async (planned) => {
      const actor = newActor();
      const account = await begin(actor, planned);
      const { reservedCreditsMicro } = account.turn.reserve;
      await finish(account);
      const { usage } = planned.ending;
      const dearest =
        usage === null || usage === undefined
          ? 0n
          : creditsMicro(
              BigInt(usage.inputTokens),
              BigInt(usage.outputTokens),
              account.turn.reserve.inputMultiplierMicro,
              account.turn.reserve.outputMultiplierMicro,
            );
      const allowed = dearest > reservedCreditsMicro ? dearest : reservedCreditsMicro;
      for (const row of await usageRows(database.db, actor)) {
        expect(row.spent + row.reserved <= allowed).toBe(true);
      }
    }),
    { numRuns: 25 },
  );
});
