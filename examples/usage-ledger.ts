/**
 * A receiver of usage events that counts each exactly once: key and sum change in one transaction of its
 * own PostgreSQL, so it may be killed at any moment, and run in several processes.
 *
 *   MINI_CHAT_SECRET=… DATABASE_URL=postgres://… npx node examples/usage-ledger.ts 8081
 *
 * and on the side of mini-chat:
 *
 *   plugins:
 *     usage: { type: http, url: "http://127.0.0.1:8081/usage", secret: "…" }
 */
import { createServer } from "node:http";
import pg from "pg";
import {
  createDeduplicator,
  EventError,
  eventKey,
  parseUsageEvent,
  type SeenKeys,
  signatureHeader,
  verifySignature,
} from "../packages/client/src/events/index.ts"; // installed: "@mini-chat/client/events"

const { MINI_CHAT_SECRET: secret = "", DATABASE_URL: connectionString = "" } = process.env;
if (secret === "" || connectionString === "") throw new Error("MINI_CHAT_SECRET or DATABASE_URL is not set");

const pool = new pg.Pool({ connectionString, max: 4 });
// A lost idle connection is replaced by the pool; without a listener it would end the process.
pool.on("error", () => {});
await pool.query(`
  begin;
  select pg_advisory_xact_lock(1);
  create table if not exists seen_events (key text primary key, seen_at timestamptz not null default now());
  create table if not exists balances (tenant_id uuid primary key, spent_micro numeric not null);
  commit`);

/**
 * Keys in the consumer's database. The insert of a key that another process is just taking waits until
 * that one commits (then it is known) or fails (then it is ours).
 */
const postgresKeys = (pool: pg.Pool): SeenKeys<pg.PoolClient> => ({
  once: async (key, take) => {
    const client = await pool.connect();
    try {
      await client.query("begin");
      const { rowCount } = await client.query(
        "insert into seen_events (key) values ($1) on conflict do nothing",
        [key],
      );
      if (rowCount === 1) await take(client);
      await client.query("commit");
      client.release();
      return rowCount === 1;
    } catch (error) {
      // Closing the connection rolls back.
      client.release(true);
      throw error;
    }
  },
});

const { once } = createDeduplicator(postgresKeys(pool));

/** The status to answer: 2xx only once the event is committed; until then mini-chat keeps it. */
const receive = async (header: string, body: Buffer): Promise<number> => {
  if (verifySignature({ secrets: [secret], header, body }) !== null) return 401;
  try {
    const event = parseUsageEvent(body.toString());
    const taken = await once(eventKey(event), async (client) => {
      await client.query(
        `insert into balances (tenant_id, spent_micro) values ($1, $2)
         on conflict (tenant_id) do update set spent_micro = balances.spent_micro + excluded.spent_micro`,
        [event.tenant_id, event.actual_credits_micro],
      );
    });
    console.log(`${event.tenant_id}: ${taken ? `+${event.actual_credits_micro}` : "seen before"}`);
    return 204;
  } catch (error) {
    // What can never be read goes to an operator (422); anything else is worth another try.
    return error instanceof EventError && error.kind === "unreadable" ? 422 : 503;
  }
};

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  response.writeHead(await receive(`${request.headers[signatureHeader] ?? ""}`, Buffer.concat(chunks))).end();
});

server.listen(Number(process.argv[2] ?? 8081), "127.0.0.1", () => {
  const address = server.address();
  console.log(`listening on ${typeof address === "object" ? address?.port : address}`);
});
