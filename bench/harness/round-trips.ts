import { startApp } from "../../packages/server/src/app.ts";
import { parseConfig } from "../../packages/server/src/config/schema.ts";
import { overlay } from "../../packages/server/src/config/tree.ts";
import { noLogger } from "../../packages/server/src/telemetry/log.ts";
import { startSimulator } from "../../packages/simulator/src/index.ts";
import { createChats, send } from "./client.ts";
import { benchConfig, type User, withDatabase } from "./stack.ts";

const GATE = "answer";

/** Round trips to the database in one part of a turn. */
interface Trips {
  /** Of its transaction. */
  readonly transaction: number;
  /** Reads before it or behind it. */
  readonly reads: number;
  /** Every statement, in the order it was sent. */
  readonly statements: readonly string[];
}

export interface RoundTrips {
  /** From the request to `stream_started`. */
  readonly transaction_1: Trips;
  /** From the end of the provider's answer to `done`. */
  readonly transaction_2: Trips;
}

const user: User = {
  token: "token-0",
  tenantId: "aaaaaaaa-0000-4000-8000-000000000001",
  userId: "a0000000-0000-4000-8000-00000000000a",
};

/** Counts the round trips of one warm turn with an application in this process, whose outbox rests. */
export const countRoundTrips = (): Promise<RoundTrips> =>
  withDatabase(async (database, dir) => {
    const simulator = await startSimulator();
    simulator.setDefault({ gate: GATE, repeat: { count: 20, bytes: 4, interval_ms: 0 } });
    const place = { databaseUrl: database.url, providerPort: simulator.port, dir };
    // In the role `api` nothing but the turn talks to the database.
    const config = parseConfig(overlay(benchConfig(place, [user]), { role: "api" }) as object);
    const app = await startApp({ config, logger: noLogger, given: { secrets: () => null } });
    try {
      const port = app.api?.port ?? 0;
      const [chat] = await createChats({ serverPort: port, users: [user] }, 1);
      if (chat === undefined) throw new Error("no chat");
      const count = countOn(app.db);
      const before = simulator.requests().length;
      const opened = send({ port, ...chat });
      await simulator.waitForRequest(({ id }) => id > before);
      const first = count();
      simulator.open(GATE);
      await opened.finished;
      return { transaction_1: first, transaction_2: count() };
    } finally {
      await app.stop();
      await simulator.close();
    }
  });

/** The trips since the last call. */
const countOn = (db: Awaited<ReturnType<typeof startApp>>["db"]): (() => Trips) => {
  let transaction = 0;
  let reads = 0;
  let statements: string[] = [];
  const query = db.query.bind(db);
  const run = db.run.bind(db);
  db.onRoundTrip = () => {
    transaction += 1;
  };
  db.query = (statement, values) => {
    reads += 1;
    return query(statement, values);
  };
  db.run = (client, statement, values) => {
    statements.push(typeof statement === "string" ? statement.trim().slice(0, 60) : statement.name);
    return run(client, statement, values);
  };
  return () => {
    const trips = { transaction, reads, statements };
    transaction = 0;
    reads = 0;
    statements = [];
    return trips;
  };
};
