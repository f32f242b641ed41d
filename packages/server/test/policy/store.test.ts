import { afterAll, beforeAll, expect, test } from "vitest";
import { asTenantId } from "../../src/auth/actor.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import {
  deleteSnapshot,
  findExpiredSnapshots,
  findSnapshot,
  insertSnapshot,
} from "../../src/policy/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const newTenant = () => asTenantId(uuidV4());

const insert = (tenantId: ReturnType<typeof newTenant>, version: bigint, document: string) =>
  inTransaction(database.db, (tx) => insertSnapshot(tx, tenantId, version, document));

test("a stored version never changes, and what differs is told", async () => {
  const one = newTenant();
  expect(await insert(one, 7n, '{"a":1,"b":[2]}')).toEqual({ same: true, document: { a: 1, b: [2] } });
  expect(await insert(one, 7n, '{"b":[2],"a":1.0}')).toMatchObject({ same: true });
  expect(await insert(one, 7n, '{"a":2}')).toEqual({ same: false, document: { a: 1, b: [2] } });
  expect(await findSnapshot(database.db, one, 7n)).toEqual({ document: { a: 1, b: [2] } });
});

test("another tenant's version is not there", async () => {
  await insert(newTenant(), 7n, "{}");
  expect(await findSnapshot(database.db, newTenant(), 7n)).toBeNull();
});

test("versions past their retention are found, but never the newest of a tenant", async () => {
  const [old, fresh] = [newTenant(), newTenant()];
  for (const version of [1n, 2n, 3n]) await insert(old, version, "{}");
  for (const version of [1n, 2n]) await insert(fresh, version, "{}");
  const age = "update policy_snapshots set fetched_at = now() - interval '401 days' where tenant_id = $1";
  await database.db.query(age, [old]);
  const expired = await findExpiredSnapshots(database.db, 400, 100);
  expect(expired.map(({ tenantId, version }) => `${tenantId} ${version}`).sort()).toEqual([
    `${old} 1`,
    `${old} 2`,
  ]);
  expect(await findExpiredSnapshots(database.db, 400, 1)).toHaveLength(1);
  for (const { tenantId, version } of expired) {
    await inTransaction(database.db, (tx) => deleteSnapshot(tx, tenantId, version));
  }
  expect(await findSnapshot(database.db, old, 3n)).not.toBeNull();
  expect(await findSnapshot(database.db, old, 2n)).toBeNull();
  expect(await findExpiredSnapshots(database.db, 400, 100)).toEqual([]);
});
