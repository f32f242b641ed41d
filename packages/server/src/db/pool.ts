import pg from "pg";
import { AppError } from "../errors.ts";

/** A timestamp of the database, RFC 3339 in UTC with its microseconds, e.g. `2026-03-01T10:15:31.204518Z`. */
export type Timestamp = string;

/** Named statements are prepared once per connection; the name must be unique to the text. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  /** Longest wait for its answer, in ms, after which its connection is given up; default: that of the pool. */
  readonly timeoutMs?: number;
}

export interface Result<Row> {
  readonly rows: Row[];
  readonly rowCount: number;
}

export interface Queryable {
  /**
   * Runs one statement. Inside a transaction, statements issued without awaiting the previous one
   * travel in one round trip (pipelining) and run in the order issued.
   */
  query<Row = Record<string, unknown>>(
    statement: Statement | string,
    values?: readonly unknown[],
  ): Promise<Result<Row>>;
}

export interface PoolOptions {
  /** Connection string, or a socket/host of the embedded server in URL form. */
  readonly url: string;
  readonly maxConnections: number;
  readonly acquireTimeoutMs: number;
  readonly statementTimeoutMs: number;
  readonly lockTimeoutMs: number;
  readonly idleInTransactionTimeoutMs: number;
  readonly applicationName?: string;
  /** Called with errors of idle connections; the pool replaces them by itself. */
  readonly onError?: (error: Error) => void;
}

const oid = { int8: 20, date: 1082, timestamptz: 1184 } as const;

/** `2026-03-01 10:15:31.2+00` (session time zone UTC) → `2026-03-01T10:15:31.2Z`, digits untouched. */
const parseTimestamp = (text: string): Timestamp => `${text.slice(0, 10)}T${text.slice(11, -3)}Z`;

const types: pg.CustomTypesConfig = {
  getTypeParser: ((id: number, format?: "text" | "binary") => {
    if (id === oid.int8) return BigInt;
    if (id === oid.timestamptz) return parseTimestamp;
    if (id === oid.date) return (text: string) => text;
    return format === undefined ? pg.types.getTypeParser(id) : pg.types.getTypeParser(id, format as "text");
  }) as pg.CustomTypesConfig["getTypeParser"],
};

/**
 * A pool of pipelining connections. `int8` arrives as `bigint`, `timestamptz` as text with all its
 * microseconds (data.md §1), `date` as `YYYY-MM-DD`.
 */
export class Db implements Queryable {
  readonly pool: pg.Pool;
  /** Round trips are counted where the tests and benchmarks ask for it. */
  onRoundTrip: (() => void) | undefined;
  /** Told of every named statement that was answered, with its time in ms; in a pipeline that of its batch. */
  onStatement: ((name: string, ms: number, error?: unknown) => void) | undefined;

  constructor(options: PoolOptions) {
    this.pool = new pg.Pool({
      connectionString: options.url,
      max: options.maxConnections,
      connectionTimeoutMillis: options.acquireTimeoutMs,
      application_name: options.applicationName ?? "mini-chat",
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      // A peer that is gone without a word never answers: beyond the server's own limit the connection is dead.
      query_timeout: options.statementTimeoutMs + 5_000,
      types,
      pipeline: true,
      options: [
        `-c statement_timeout=${options.statementTimeoutMs}`,
        `-c lock_timeout=${options.lockTimeoutMs}`,
        `-c idle_in_transaction_session_timeout=${options.idleInTransactionTimeoutMs}`,
        "-c timezone=UTC",
      ].join(" "),
    } as pg.PoolConfig);
    this.pool.on("error", (error) => options.onError?.(error));
    // The pool takes its listener off a client that is checked out. What was under way rejects by itself;
    // without a listener the loss of one connection would be the end of the process.
    this.pool.on("connect", (client) => client.on("error", () => {}));
  }

  /** A single statement outside any transaction. Reads only: writes go through `inTransaction`. */
  async query<Row = Record<string, unknown>>(
    statement: Statement | string,
    values: readonly unknown[] = [],
  ): Promise<Result<Row>> {
    const client = await this.connect();
    try {
      const result = await this.run<Row>(client, statement, values);
      client.release();
      return result;
    } catch (error) {
      client.release(isConnectionLost(error));
      throw error;
    }
  }

  /** Runs a statement on a connection of this pool, observed. */
  run<Row>(
    client: pg.ClientBase,
    statement: Statement | string,
    values: readonly unknown[],
  ): Promise<Result<Row>> {
    const running = runStatement<Row>(client, statement, values);
    const { onStatement } = this;
    if (onStatement === undefined || typeof statement === "string") return running;
    const { name } = statement;
    const sentAt = performance.now();
    running.then(
      () => onStatement(name, performance.now() - sentAt),
      (error: unknown) => onStatement(name, performance.now() - sentAt, error),
    );
    return running;
  }

  /** A checked-out connection; the caller releases it. Pool exhaustion is 503 `service_unavailable`. */
  async connect(): Promise<pg.PoolClient> {
    try {
      return await this.pool.connect();
    } catch (error) {
      throw new AppError("service_unavailable", {
        detail: "The database is not available.",
        headers: { "retry-after": "5" },
        cause: error,
      });
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

/** Runs one statement on a raw connection with this program's result shape. */
export const runStatement = async <Row>(
  client: pg.ClientBase,
  statement: Statement | string,
  values: readonly unknown[],
): Promise<Result<Row>> => {
  const { name, text, timeoutMs } =
    typeof statement === "string" ? { name: undefined, text: statement, timeoutMs: undefined } : statement;
  const config: pg.QueryConfig & { query_timeout?: number } = {
    ...(name === undefined ? {} : { name }),
    ...(timeoutMs === undefined ? {} : { query_timeout: timeoutMs }),
    text,
    values: [...values],
  };
  const result = await client.query(config);
  return { rows: result.rows as Row[], rowCount: result.rowCount ?? 0 };
};

/** SQLSTATE of a database error, or undefined for anything else (`EPIPE` has five capitals too). */
export const sqlState = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined;

/** Name of the violated constraint or unique index, where the server tells it. */
export const violatedConstraint = (error: unknown): string | undefined => {
  const name = (error as { constraint?: unknown } | null)?.constraint;
  return typeof name === "string" ? name : undefined;
};

/** The server ended the session: connection exceptions, shutdown, its own time limits. */
const lostStates = ["08", "57P", "25P03", "25P04"];

const lostCodes = new Set([
  "ECONNRESET",
  "ECONNREFUSED",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "ENOTFOUND",
  "EAI_AGAIN",
]);

/** The connection is gone (or never was): nothing can be said about the outcome of the statement. */
export const isConnectionLost = (error: unknown): boolean => {
  if (!(error instanceof Error)) return false;
  const state = sqlState(error);
  if (state !== undefined) return lostStates.some((lost) => state.startsWith(lost));
  const { code } = error as { code?: unknown };
  return (
    (typeof code === "string" && lostCodes.has(code)) ||
    /connection terminated|connection error|not queryable|query read timeout/i.test(error.message)
  );
};
