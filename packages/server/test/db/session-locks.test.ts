import { afterAll, beforeAll, expect, test } from "vitest";
import { requireSessionLocks } from "../../src/db/session-locks.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startPooler } from "../support/pooler.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("a database that is reached directly keeps its locks, and none is left behind", async () => {
  await requireSessionLocks(database.url);
  const { rows } = await database.db.query(
    `select from pg_locks
     where locktype = 'advisory'
       and classid = 19779
       and database = (select oid from pg_database where datname = current_database())`,
  );
  expect(rows).toEqual([]);
});

test.each([1, 2, 3])(
  "behind a transaction-mode pooler of %i sessions there are no session locks",
  async (sessions) => {
    const pooler = await startPooler(database.url, sessions);
    try {
      const told = { reason: "no_session_locks", message: expect.stringContaining("database.direct_url") };
      await expect(requireSessionLocks(pooler.url)).rejects.toMatchObject(told);
    } finally {
      await pooler.close();
    }
  },
);
