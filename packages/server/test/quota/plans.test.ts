import { afterAll, beforeAll, expect, test } from "vitest";
import type { Statement } from "../../src/db/pool.ts";
import type { Tx } from "../../src/db/tx.ts";
import { readCurrentUsage } from "../../src/quota/status-store.ts";
import { addReserve, lockQuotaRows, settleQuota } from "../../src/quota/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { admitted, model, newActor, noToolCalls, type SentTurn, send } from "./support.ts";

let database: TestDatabase;
let turn: SentTurn;

beforeAll(async () => {
  database = await createTestDatabase();
  turn = admitted(
    await send(database.db, newActor(), {
      models: [model({ id: "P", tier: "premium" })],
      estimatedInputTokens: 1n,
    }),
  );
  // A user with more than a year of rows among many others: what a lookup must not walk through.
  await database.db.query(
    `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
     select $1, case when u = 0 then $2 else gen_random_uuid() end, 'daily', '2025-01-01'::date + day, bucket
     from
       generate_series(0, 20) as u,
       generate_series(0, 399) as day,
       (values ('total'), ('tier:premium')) as b (bucket)`,
    [turn.actor.tenantId, turn.actor.userId],
  );
  await database.db.query("analyze quota_usage");
});
afterAll(() => database.drop());

interface Plan {
  readonly "Node Type": string;
  readonly "Parent Relationship"?: string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly "Conflict Arbiter Indexes"?: readonly string[];
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

/** What is issued, instead of running it. */
const issued = (work: (tx: Tx) => Promise<unknown>): { statement: Statement; values: unknown[] }[] => {
  const seen: { statement: Statement; values: unknown[] }[] = [];
  const recorder = {
    query: (statement: Statement, values: unknown[]) => {
      seen.push({ statement, values });
      return new Promise(() => {});
    },
  };
  work(recorder as unknown as Tx).catch(() => {});
  return seen;
};

const planOf = async ({ statement, values }: { statement: Statement; values: unknown[] }): Promise<Plan> => {
  const { rows } = await database.db.query<{ "QUERY PLAN": { Plan: Plan }[] }>(
    `explain (format json) ${statement.text}`,
    values,
  );
  const plan = rows[0]?.["QUERY PLAN"][0]?.Plan;
  if (plan === undefined) throw new Error("no plan");
  return plan;
};

const all = () => {
  const { actor } = turn;
  const periods = { daily: "2026-05-20", monthly: "2026-05-01" };
  return [
    ...issued((tx) => lockQuotaRows(tx, actor, turn.id)),
    ...issued((tx) =>
      addReserve(tx, actor, { periods, tier: "premium", reservedCreditsMicro: 1n, images: 0 }),
    ),
    ...issued((tx) =>
      settleQuota(tx, {
        tenantId: actor.tenantId,
        userId: actor.userId,
        turnId: turn.id,
        tier: "premium",
        method: "estimated",
        reservedCreditsMicro: 1n,
        committedCreditsMicro: 1n,
        inputTokens: 0n,
        outputTokens: 0n,
        toolCounts: noToolCalls,
      }),
    ),
    ...issued((tx) => readCurrentUsage(tx, actor)),
  ];
};

test("every statement reaches its rows through the unique index, by the whole period", async () => {
  const statements = all();
  expect(statements).toHaveLength(8);
  for (const one of statements) {
    const nodes = nodesOf(await planOf(one));
    const writes = nodes.filter((node) => node["Node Type"] === "ModifyTable");
    for (const { "Conflict Arbiter Indexes": arbiters } of writes) {
      expect(arbiters, one.statement.name).toEqual(["quota_usage_period_key"]);
    }
    const reads = nodes.filter(
      (node) => node["Relation Name"] === "quota_usage" && node["Node Type"] !== "ModifyTable",
    );
    expect(writes.length + reads.length, one.statement.name).toBe(1);
    for (const read of reads) {
      expect(read["Index Name"], one.statement.name).toBe("quota_usage_period_key");
      for (const column of ["tenant_id", "user_id", "period_type", "period_start"]) {
        expect(read["Index Cond"], one.statement.name).toContain(column);
      }
    }
  }
});

test("rows are sorted before they are locked", async () => {
  const lock = all().find(({ statement }) => statement.text.includes("for update"));
  if (lock === undefined) throw new Error("nothing is locked");
  const plan = await planOf(lock);
  const locked = plan.Plans?.find((child) => child["Parent Relationship"] === "Outer");
  expect([plan["Node Type"], locked?.["Node Type"]]).toEqual(["LockRows", "Sort"]);
});
