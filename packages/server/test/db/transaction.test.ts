import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isConnectionLost, sqlState } from "../../src/db/pool.ts";
import { inTransaction, isTransient, type Tx } from "../../src/db/tx.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  await database.db.query("create table note (text text not null)");
});
afterAll(async () => {
  await database.drop();
});

const notes = async (): Promise<number> => (await database.db.query("select from note")).rowCount;

describe("a transaction (architecture: everything or nothing)", () => {
  test("commits what was issued, and runs its hooks after the commit", async () => {
    const seen: number[] = [];
    await inTransaction(database.db, async (tx) => {
      tx.afterCommit(() => seen.push(1));
      await tx.query("insert into note values ('kept')");
      expect(seen).toEqual([]);
    });
    expect(seen).toEqual([1]);
    expect(await notes()).toBe(1);
  });

  test("rolls back when a piped statement fails although COMMIT was sent behind it", async () => {
    let hooked = false;
    const attempt = inTransaction(database.db, async (tx) => {
      tx.afterCommit(() => {
        hooked = true;
      });
      const good = tx.query("insert into note values ('lost')");
      const bad = tx.query("insert into note values (null)");
      tx.commitNow();
      await Promise.all([good, bad]);
    });
    await expect(attempt).rejects.toMatchObject({ code: "23502" });
    expect(hooked).toBe(false);
    expect(await notes()).toBe(1);
  });

  test("does not commit once a part of it was refused before it sent anything", async () => {
    const cause = new Error("refused");
    const attempt = inTransaction(database.db, async (tx) => {
      const written = tx.query("insert into note values ('lost')");
      tx.doom(cause);
      tx.commitNow();
      await written;
    });
    await expect(attempt).rejects.toBe(cause);
    expect(await notes()).toBe(1);
  });

  test("cannot be used after its end", async () => {
    let kept: Tx | undefined;
    await inTransaction(database.db, async (tx) => {
      kept = tx;
      await tx.query("select 1");
    });
    await expect(kept?.query("select 1")).rejects.toThrow("after its end");
  });

  test("is run again after a deadlock, three times in all", async () => {
    let runs = 0;
    const attempt = inTransaction(database.db, async (tx) => {
      runs += 1;
      await tx.query("do $$ begin raise exception 'deadlock' using errcode = '40P01'; end $$");
    });
    await expect(attempt).rejects.toMatchObject({ code: "40P01" });
    expect(runs).toBe(3);
  });
});

describe("telling a lost connection from a refused statement", () => {
  const errno = (code: string): Error => Object.assign(new Error(code), { code });

  test.each(["ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ECONNREFUSED"])(
    "%s is a lost connection, not an SQLSTATE",
    (code) => {
      expect(sqlState(errno(code))).toBeUndefined();
      expect(isConnectionLost(errno(code))).toBe(true);
      expect(isTransient(errno(code))).toBe(true);
    },
  );

  test("so is a session the server has ended", async () => {
    const client = await database.db.pool.connect();
    const running = client.query("select pg_sleep(60)").catch((error: unknown) => error);
    const terminate = `select pg_terminate_backend(pid) from pg_stat_activity
      where query = 'select pg_sleep(60)' and datname = current_database()`;
    while ((await database.db.query(terminate)).rowCount === 0);
    const error = await running;
    expect(isConnectionLost(error)).toBe(true);
    client.release(true);
  });

  test("a refused statement is neither lost nor worth another try", async () => {
    const error = await database.db.query("insert into note values (null)").catch((e: unknown) => e);
    expect(sqlState(error)).toBe("23502");
    expect(isConnectionLost(error)).toBe(false);
    expect(isTransient(error)).toBe(false);
  });
});
