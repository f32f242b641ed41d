import { randomInt } from "node:crypto";
import pg from "pg";
import { lockSpace } from "./direct.ts";
import { MigrationError } from "./migration.ts";

// The second keys of jobs are small.
const firstProbe = 1_000_000;

/**
 * Throws `MigrationError` when the connections of this URL do not keep their session from one statement
 * to the next, as behind a transaction-mode pooler: advisory locks and LISTEN would be lost silently
 * (ops.md §8). A second connection holds a session meanwhile; an idle pooler would give the first the same
 * one again, and the lock would seem to be kept.
 */
export const requireSessionLocks = async (url: string): Promise<void> => {
  const [holder, other] = [connection(url), connection(url)];
  try {
    await Promise.all([holder.connect(), other.connect()]);
    if (!(await keepsSession(holder, other))) {
      throw new MigrationError(
        "no_session_locks",
        "the connection does not keep session locks: set database.direct_url to bypass the pooler",
      );
    }
  } finally {
    await Promise.all([holder.end(), other.end()]);
  }
};

const answerMs = 30_000;

const connection = (url: string): pg.Client => {
  const client = new pg.Client({
    connectionString: url,
    application_name: "mini-chat start",
    connectionTimeoutMillis: answerMs,
    query_timeout: answerMs,
  });
  // Losing the connection rejects the statement under way, which tells it all.
  client.on("error", () => {});
  return client;
};

const keepsSession = async (holder: pg.Client, other: pg.Client): Promise<boolean> => {
  // A lock that stays behind in a pooled session is in nobody's way.
  const lock = [lockSpace, randomInt(firstProbe, 2 ** 31)];
  const session = await pidOf(holder, "select pg_backend_pid() as pid, pg_advisory_lock($1, $2)", lock);
  await other.query("begin");
  if ((await pidOf(other, "select pg_backend_pid() as pid")) === session) return false;
  const { rows } = await holder.query<{ held: boolean }>("select pg_advisory_unlock($1, $2) as held", lock);
  await other.query("rollback");
  return rows[0]?.held === true;
};

const pidOf = async (client: pg.Client, text: string, values: readonly unknown[] = []): Promise<unknown> =>
  (await client.query<{ pid: number }>(text, [...values])).rows[0]?.pid;
