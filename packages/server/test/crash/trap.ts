import type { Db } from "../../src/db/pool.ts";
import { holdLock } from "./support.ts";

const lockId = 4_711;

/**
 * Makes every transaction that stores a message of this role wait at that insert, with all it does
 * behind it already sent, until the trap is opened.
 */
export const trapMessages = async (
  ground: { readonly db: Db; readonly databaseUrl: string },
  role: "user" | "assistant",
): Promise<() => Promise<void>> => {
  await ground.db.query(
    `create or replace function test_trap() returns trigger language plpgsql as $$
     begin
       perform pg_advisory_xact_lock(${lockId});
       return new;
     end $$`,
  );
  await ground.db.query(
    `create trigger test_trap before insert on messages
     for each row when (new.role = '${role}') execute function test_trap()`,
  );
  const release = await holdLock(ground.databaseUrl, `select pg_advisory_xact_lock(${lockId})`);
  return async () => {
    await release();
    // Waits for those in the trap: what they did is committed when this resolves.
    await ground.db.query("drop trigger test_trap on messages");
  };
};
