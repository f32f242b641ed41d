import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chatScopePredicate, satisfies } from "../../src/auth/scope.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { chatIds, rules, tenants, users } from "./arbitraries.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const rows = chatIds.flatMap((id) =>
  users.flatMap((owner_id) => tenants.map((owner_tenant_id) => ({ id, owner_id, owner_tenant_id }))),
);

test("for all rules: the database finds the rows that satisfy them, and no value is ever SQL", async () => {
  const listed = rows
    .map(
      ({ id, owner_id, owner_tenant_id }, at) =>
        `(${at}, '${id}'::uuid, '${owner_id}'::uuid, '${owner_tenant_id}'::uuid)`,
    )
    .join(", ");
  await fc.assert(
    fc.asyncProperty(rules, async (raw) => {
      const { sql, values } = chatScopePredicate({ rules: raw }, "c", 1);
      const { rows: found } = await database.db.query<{ at: number }>(
        `select c.at from (values ${listed}) as c (at, id, user_id, tenant_id) where ${sql} order by c.at`,
        [...values],
      );
      const expected = rows.flatMap((row, at) => (satisfies(raw, row) ? [at] : []));
      expect(found.map(({ at }) => at)).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});
