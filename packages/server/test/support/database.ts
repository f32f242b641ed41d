import { randomBytes } from "node:crypto";
import pg from "pg";
import { inject } from "vitest";
import { Db } from "../../src/db/pool.ts";

export interface TestDatabase {
  readonly url: string;
  readonly db: Db;
  /** Closes `db` and removes the database, whoever is still connected. */
  drop(): Promise<void>;
}

export interface TestDatabaseOptions {
  /** Default 10. */
  readonly maxConnections?: number;
  /** Start from an empty database instead of one with all migrations. */
  readonly empty?: boolean;
}

/**
 * A database of its own for one test file, cloned from the migrated template (about 50 ms). Session
 * limits are those of production (data.md §1). Drop it in `afterAll`.
 */
export const createTestDatabase = async (options: TestDatabaseOptions = {}): Promise<TestDatabase> => {
  const name = `mini_chat_test_${randomBytes(6).toString("hex")}`;
  const template = options.empty === true ? "template0" : inject("databaseTemplate");
  await administer(`create database ${name} template ${template}`);
  const url = new URL(inject("databaseAdminUrl"));
  url.pathname = `/${name}`;
  const db = new Db({
    url: url.href,
    maxConnections: options.maxConnections ?? 10,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 15_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
    applicationName: "mini-chat test",
  });
  return {
    url: url.href,
    db,
    drop: async () => {
      await db.close();
      await administer(`drop database if exists ${name} with (force)`);
    },
  };
};

const administer = async (statement: string): Promise<void> => {
  const client = new pg.Client({ connectionString: inject("databaseAdminUrl") });
  await client.connect();
  await client.query(statement).finally(() => client.end());
};
