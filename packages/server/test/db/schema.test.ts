import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { dumpSchema } from "../../src/db/schema-dump.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const dumpFile = fileURLToPath(new URL("../../../../docs/schema.sql", import.meta.url));
const heading = `-- The schema all migrations lead to, written by \`UPDATE_SNAPSHOTS=1 npx vitest run packages/server/test/db/schema.test.ts\`.
-- For reading and for the test that compares it; the database is made by migrations/ alone.

`;

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("the migrated schema is the checked-in one", async () => {
  const dump = heading + (await dumpSchema(database.db));
  if (process.env.UPDATE_SNAPSHOTS !== undefined) await writeFile(dumpFile, dump);
  expect(dump).toBe(await readFile(dumpFile, "utf8"));
});

test("migrating twice changes nothing", async () => {
  const before = await dumpSchema(database.db);
  const again = await migrate({ url: database.url, mode: "auto" });
  expect(again.applied).toEqual([]);
  expect(await dumpSchema(database.db)).toBe(before);
});

test("no extension is needed", async () => {
  const { rows } = await database.db.query<{ name: string }>("select extname as name from pg_extension");
  expect(rows.map((row) => row.name)).toEqual(["plpgsql"]);
});

// Without one, deleting a row reads the whole child table once per row.
test("every foreign key has an index its cascade can use", async () => {
  const { rows } = await database.db.query<{ name: string }>(`
    select k.conname as name
    from pg_constraint k
    where k.contype = 'f'
      and k.connamespace = current_schema()::regnamespace
      and not exists (
        select
        from pg_index i
        where i.indrelid = k.conrelid
          and i.indpred is null
          and i.indkey[0] = any (k.conkey)
      )`);
  expect(rows.map((row) => row.name)).toEqual([]);
});
