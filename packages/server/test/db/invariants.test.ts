import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("clones the template", async () => {
  const { rows } = await database.db.query<{ n: bigint }>("select count(*) as n from schema_migrations");
  expect(rows[0]?.n).toBeGreaterThan(0n);
});
