import type pg from "pg";
import { AppError } from "../errors.ts";
import { InvariantError } from "../lib/assert.ts";
import { sleep } from "../lib/sleep.ts";
import { type Db, isConnectionLost, type Queryable, type Result, type Statement, sqlState } from "./pool.ts";

declare const txBrand: unique symbol;

/**
 * An open transaction. Only `inTransaction` makes one, so a function that takes `tx` cannot be
 * called outside a transaction, and every enqueue is bound to its caller's commit (outbox.md §2).
 */
export interface Tx extends Queryable {
  readonly [txBrand]: true;
  /** Runs after the commit, in order; never after a rollback. Must not throw. */
  afterCommit(hook: () => void): void;
  /**
   * Sends COMMIT right behind the statements already issued, in the same round trip. The
   * transaction function must return without issuing anything else.
   */
  commitNow(): void;
  /**
   * The transaction must not commit, whatever its caller does: committing throws `cause` instead. For a
   * part that failed before it sent anything the server could refuse.
   */
  doom(cause: unknown): void;
}

export interface TransactionOptions {
  /** Runs in all, counting the first, on serialization failure and deadlock (data.md §1). Default 3. */
  readonly attempts?: number;
}

class OpenTx implements Tx {
  declare readonly [txBrand]: true;
  readonly hooks: (() => void)[] = [];
  private readonly client: pg.PoolClient;
  private readonly db: Db;
  private ended = false;
  private begun = false;
  private quiet = true;
  private failure: unknown;
  private beginFailure: { readonly cause: unknown } | undefined;
  private doomed: { readonly cause: unknown } | undefined;
  private commitSent: Promise<Result<never> & { command?: string }> | undefined;
  pending = 0;

  constructor(client: pg.PoolClient, db: Db) {
    this.client = client;
    this.db = db;
  }

  query<Row = Record<string, unknown>>(
    statement: Statement | string,
    values: readonly unknown[] = [],
  ): Promise<Result<Row>> {
    if (this.ended) return Promise.reject(new InvariantError("transaction used after its end"));
    this.begin();
    return this.track(this.db.run<Row>(this.client, statement, values));
  }

  afterCommit(hook: () => void): void {
    this.hooks.push(hook);
  }

  doom(cause: unknown): void {
    this.doomed ??= { cause };
  }

  commitNow(): void {
    if (this.doomed !== undefined) {
      this.ended = true;
      return;
    }
    if (this.commitSent !== undefined) return;
    this.begin();
    this.commitSent = this.track(this.client.query("commit") as never);
    this.commitSent.catch(() => {});
    this.ended = true;
  }

  /** Ends the transaction; throws when the server answered COMMIT with ROLLBACK. */
  async commit(): Promise<void> {
    if (this.doomed !== undefined) throw this.doomed.cause;
    if (!this.begun) {
      this.ended = true;
      return;
    }
    this.commitNow();
    const result = (await this.commitSent) as unknown as { command: string };
    // Without its BEGIN every statement was a transaction of its own: nobody may take that for success.
    if (this.beginFailure !== undefined) throw this.beginFailure.cause;
    // A failed statement turns COMMIT into a successful ROLLBACK: only the tag tells.
    if (result.command !== "COMMIT") {
      throw this.failure ?? new InvariantError(`commit answered ${result.command}`);
    }
  }

  async rollback(): Promise<void> {
    this.ended = true;
    if (!this.begun) return;
    await (this.commitSent?.catch(() => {}) ?? this.client.query("rollback"));
  }

  private begin(): void {
    if (this.begun) return;
    this.begun = true;
    const begin = this.client.query("begin");
    begin.catch((error: unknown) => {
      this.failure ??= error;
      this.beginFailure = { cause: error };
    });
  }

  /** Counts a round trip whenever something is sent while nothing is under way. */
  private track<T>(promise: Promise<T>): Promise<T> {
    if (this.quiet) {
      this.quiet = false;
      this.db.onRoundTrip?.();
    }
    this.pending += 1;
    const settled = promise.then(
      (value) => {
        this.done();
        return value;
      },
      (error: unknown) => {
        this.done();
        // The first failure is the cause; later ones only say that the transaction is aborted.
        this.failure ??= error;
        throw sqlState(error) === "25P02" ? this.failure : error;
      },
    );
    // A rejected statement of a batch is seen through its siblings or the commit tag as well.
    settled.catch(() => {});
    return settled;
  }

  private done(): void {
    this.pending -= 1;
    if (this.pending === 0) this.quiet = true;
  }
}

const retryable = new Set(["40001", "40P01"]);

const transientStates = new Set([...retryable, "55P03", "57014", "53300"]);

/** Whether running the whole transaction again, later, may succeed: the database was busy or away. */
export const isTransient = (error: unknown): boolean => {
  const cause = error instanceof AppError ? error.options.cause : undefined;
  const state = sqlState(error) ?? sqlState(cause);
  return (
    isConnectionLost(error) ||
    isConnectionLost(cause) ||
    (state !== undefined && transientStates.has(state)) ||
    (error instanceof AppError && error.code === "service_unavailable")
  );
};

/**
 * Runs `work` in one READ COMMITTED transaction. Whatever it throws rolls everything back and is
 * rethrown; serialization failures and deadlocks run it again (jitter 10–50 ms); a lock wait over
 * its limit is 503 `service_unavailable` (quota.md §6.6). No network call belongs inside `work`.
 */
export const inTransaction = async <T>(
  db: Db,
  work: (tx: Tx) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> => {
  const attempts = options.attempts ?? 3;
  for (let attempt = 1; ; attempt += 1) {
    const client = await db.connect();
    const tx = new OpenTx(client, db);
    let value: T;
    try {
      value = await work(tx);
      await tx.commit();
    } catch (error) {
      const broken = await tx.rollback().then(
        () => false,
        () => true,
      );
      client.release(broken || isConnectionLost(error));
      const state = sqlState(error);
      if (state !== undefined && retryable.has(state) && attempt < attempts) {
        await sleep(10 + Math.random() * 40);
        continue;
      }
      if (state === "55P03") {
        throw new AppError("service_unavailable", {
          detail: "The resource is busy.",
          headers: { "retry-after": "5" },
          cause: error,
        });
      }
      throw error;
    }
    client.release();
    for (const hook of tx.hooks) hook();
    return value;
  }
};
