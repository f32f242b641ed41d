import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { migrate } from "../../src/db/migrate.ts";
import { recordingLogger } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let dir: string;

beforeEach(async () => {
  database = await createTestDatabase({ empty: true });
  dir = await mkdtemp(join(tmpdir(), "mini-chat-migrations-"));
});
afterEach(async () => {
  await database.drop();
  await rm(dir, { recursive: true });
});

const file = (name: string, sql: string): Promise<void> => writeFile(join(dir, name), sql);
const up = (mode: "auto" | "check" | "off" = "auto", more: object = {}) =>
  migrate({ url: database.url, mode, dir, ...more });

const applied = async (): Promise<string[]> =>
  (await database.db.query<{ name: string }>("select name from schema_migrations order by version")).rows.map(
    (row) => row.name,
  );

const tables = async (): Promise<string[]> =>
  (
    await database.db.query<{ name: string }>(
      "select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1",
    )
  ).rows.map((row) => row.name);

test("an empty database gets every file once, in order", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await file("0002_two.sql", "alter table one add column two int;");
  const { applied: done } = await up();
  expect(done.map((migration) => migration.version)).toEqual([1, 2]);
  expect(await applied()).toEqual(["one", "two"]);
  expect((await up()).applied).toEqual([]);
});

test("tells the log what it applied, under a name that no field of every line has", async () => {
  await file("0001_one.sql", "create table one (id int);");
  const { logger, lines } = recordingLogger();
  await up("auto", { logger });
  expect(lines).toMatchObject([{ msg: "migration applied", migration: 1, name: "one" }]);
  expect(lines[0]).not.toHaveProperty("version");
});

test("starting many processes at once applies every file once", async () => {
  await file("0001_one.sql", "create table one (id int); select pg_sleep(0.2);");
  await file("0002_two.sql", "create table two (id int);");
  const reports = await Promise.all(Array.from({ length: 6 }, () => up()));
  expect(reports.map((report) => report.applied.length).sort()).toEqual([0, 0, 0, 0, 0, 2]);
  expect(await applied()).toEqual(["one", "two"]);
});

test("a file that was changed after it had been applied is refused", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await up();
  await file("0001_one.sql", "create table one (id bigint);");
  await expect(up()).rejects.toMatchObject({ reason: "checksum_mismatch" });
  await expect(up("check")).rejects.toMatchObject({ reason: "checksum_mismatch" });
});

test("a schema newer than the program is refused", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await file("0002_two.sql", "create table two (id int);");
  await up();
  await rm(join(dir, "0002_two.sql"));
  await expect(up()).rejects.toMatchObject({ reason: "schema_newer" });
  await expect(up("check")).rejects.toMatchObject({ reason: "schema_newer" });
});

test("a schema newer by expansions only is accepted: the previous release runs on it", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await file("0002_expand_two.sql", "create table two (id int);");
  await up();
  await rm(join(dir, "0002_expand_two.sql"));
  expect((await up("check")).pending).toEqual([]);
});

test("check refuses a schema that is behind and changes nothing", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await expect(up("check")).rejects.toMatchObject({ reason: "schema_behind" });
  expect(await tables()).toEqual([]);
});

test("off looks at nothing", async () => {
  await file("0001_one.sql", "create table one (id int);");
  expect(await up("off")).toEqual({ applied: [], pending: [] });
  expect(await tables()).toEqual([]);
});

test("a dry run tells what is missing and changes nothing", async () => {
  await file("0001_one.sql", "create table one (id int);");
  const { pending } = await up("auto", { dryRun: true });
  expect(pending.map((migration) => migration.name)).toEqual(["one"]);
  expect(await tables()).toEqual([]);
});

test("a failing file leaves no trace, keeps the earlier ones and names its line", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await file("0002_two.sql", "create table two (id int);\n\nselect nonsense;\n");
  await expect(up()).rejects.toMatchObject({
    reason: "statement_failed",
    message: expect.stringContaining("migration 2 (two, line 3)"),
  });
  expect(await applied()).toEqual(["one"]);
  expect(await tables()).toEqual(["one", "schema_migrations"]);
});

test("a file without a transaction may build an index concurrently", async () => {
  await file("0001_one.sql", "create table one (id int);");
  await file(
    "0002_index.sql",
    "-- no-transaction\ncreate index concurrently if not exists one_idx on one (id);\nanalyze one;\n",
  );
  await up();
  expect(await applied()).toEqual(["one", "index"]);
});

test.each([
  ["a gap", ["0001_one.sql", "0003_three.sql"]],
  ["a number used twice", ["0001_one.sql", "0001_two.sql"]],
  ["no number", ["one.sql"]],
])("%s in the file names is refused", async (_case, names) => {
  for (const name of names) await file(name, "select 1;");
  await expect(up()).rejects.toMatchObject({ reason: "invalid_files" });
});

test("a runner that waits too long for another one gives up", async () => {
  await file("0001_one.sql", "create table one (id int);");
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  await other.query("select pg_advisory_lock(19779, 100)");
  await expect(up("auto", { lockTimeoutMs: 50 })).rejects.toMatchObject({ reason: "lock_timeout" });
  await other.end();
});
