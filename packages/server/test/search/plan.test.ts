import { afterAll, beforeAll, expect, test } from "vitest";
import { asTenantId, asUserId } from "../../src/auth/actor.ts";
import { scopeFor } from "../../src/auth/scope.ts";
import type { Db } from "../../src/db/pool.ts";
import { searchChats } from "../../src/search/search.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const tenants = 40;
const ownChats = 500;
const actor = {
  tenantId: asTenantId("aaaaaaaa-0000-4000-8000-000000000001"),
  userId: asUserId("a0000000-0000-4000-8000-00000000000a"),
  subjectType: "user",
  scopes: ["*"],
} as const;
const authorizer = { authorize: async () => scopeFor(actor, "unconstrained") };

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  // One owner among many others who say the same.
  await database.db.query(
    `with owner as (
       select t, case t when 0 then $1 else gen_random_uuid() end as tenant_id, case t when 0 then $2 else gen_random_uuid() end as user_id
       from generate_series(0, $3 - 1) as t
     ),
     chat as (
       insert into chats (id, tenant_id, user_id, model, title)
       select gen_random_uuid(), tenant_id, user_id, 'standard', 'about the needle'
       from owner, generate_series(1, case t when 0 then $4 else 25 end)
       returning id, tenant_id
     )
     insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
     select gen_random_uuid(), tenant_id, id, gen_random_uuid(), 'user', 'the needle no. ' || no, now() - no * interval '10 days'
     from chat, generate_series(1, 20) as no`,
    [actor.tenantId, actor.userId, tenants, ownChats],
  );
  await database.db.query("vacuum analyze messages");
  await database.db.query("vacuum analyze chats");
});
afterAll(() => database.drop());

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

/** The plans of what a search issues, as they ran. */
const plansOf = async (q: string): Promise<Plan[]> => {
  const issued: { text: string; values: readonly unknown[] }[] = [];
  const recording = Object.assign(Object.create(database.db) as Db, {
    run: (...[client, statement, values]: Parameters<Db["run"]>) => {
      if (typeof statement === "string") issued.push({ text: statement, values });
      return database.db.run(client, statement, values);
    },
  });
  await searchChats({ db: recording, authorizer }, actor, { q });
  expect(issued.length).toBeGreaterThan(0);
  return Promise.all(
    issued.map(async ({ text, values }) => {
      const { rows } = await database.db.query<{ "QUERY PLAN": { Plan: Plan }[] }>(
        `explain (analyze, format json) ${text}`,
        values,
      );
      const plan = rows[0]?.["QUERY PLAN"][0]?.Plan;
      if (plan === undefined) throw new Error("no plan");
      return plan;
    }),
  );
};

test.each(["needle", "nothing", '"the needle"', "need*", "needle -the", "nothing or the"])(
  "%s: both tables are read by the index of words, and no row of another owner is",
  async (q) => {
    for (const plan of await plansOf(q)) {
      const nodes = nodesOf(plan);
      expect(nodes.map((node) => node["Node Type"])).not.toContain("Seq Scan");
      const used = nodes.map((node) => node["Index Name"]);
      expect(used).toContain("messages_search_idx");
      expect(used).toContain("chats_search_idx");
      for (const node of nodes.filter((one) => one["Node Type"] === "Bitmap Heap Scan")) {
        expect(node["Rows Removed by Filter"] ?? 0).toBe(0);
      }
    }
  },
);

test("what is everywhere is read from the newest messages only", async () => {
  const plans = await plansOf("the");
  expect(plans).toHaveLength(1);
  const [scan] = plans.flatMap(nodesOf).filter((node) => node["Relation Name"] === "messages");
  // Of 20 messages in 200 days per chat, those of the last 30 to 60.
  expect(scan?.["Actual Rows"]).toBeLessThanOrEqual(ownChats * 7);
});
