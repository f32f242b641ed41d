import { lockSpace } from "../db/direct.ts";
import { type Db, type Statement, sqlState } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

export interface TableSinkOptions {
  readonly db: Db;
  /** Takes parallel arrays of keys, message ids, tenants and events; does nothing with a key it knows. */
  readonly insert: Statement;
  /** Makes the table where no migration has; run once before the first event, by whoever may. */
  readonly create?: string | undefined;
  readonly close?: (() => Promise<void>) | undefined;
}

// Data the table cannot take (22, 23) it will not take the next time; anything else may pass.
const permanentClass = /^2[23]/;

const insufficientPrivilege = "42501";

/** Processes that start together make the table one after the other; `if not exists` alone is no lock. */
const creationLock = `select pg_advisory_xact_lock(${lockSpace}, 101)`;

const refusal = (kind: "transient" | "permanent", what: string, error: unknown): PublishError => {
  const state = sqlState(error);
  return new PublishError(kind, state === undefined ? what : `${what} (${state})`, error);
};

/**
 * Writes events into a table, a batch per transaction, for those who want to query them. An event that
 * comes again finds its key and changes nothing, so each is there exactly once.
 */
export const createTableSink = ({ db, insert, create, close }: TableSinkOptions): Sink => {
  let ready: Promise<unknown> | null = null;
  const prepare = (): Promise<unknown> => {
    if (create === undefined) return Promise.resolve();
    ready ??= inTransaction(db, async (tx) => {
      await tx.query(creationLock);
      await tx.query(create);
    }).catch((error: unknown) => {
      // Who may only insert was given the table by somebody else, or the insert will tell.
      if (sqlState(error) === insufficientPrivilege) return;
      ready = null;
      // Says nothing about the events, whatever class the error is of.
      throw refusal("transient", "the table is not there and cannot be made", error);
    });
    return ready;
  };
  return {
    grouping: "batch",
    publish: async (deliveries) => {
      await prepare();
      try {
        await inTransaction(db, (tx) => tx.query(insert, columnsOf(deliveries)));
      } catch (error) {
        const kind = permanentClass.test(sqlState(error) ?? "") ? "permanent" : "transient";
        throw refusal(kind, "the table did not take it", error);
      }
    },
    close: async () => {
      await close?.();
    },
  };
};

const columnsOf = (deliveries: readonly Delivery[]): unknown[] => [
  deliveries.map(({ idempotencyKey }) => idempotencyKey),
  deliveries.map(({ messageId }) => messageId),
  deliveries.map(({ tenantId }) => tenantId),
  deliveries.map(({ payload }) => storable(payload)),
];

// JSON, but no text that jsonb can hold: U+0000, and halves of a character (a user may send one). Texts
// with an escaped backslash before a `u` are looked at for nothing.
const unstorable = /\\u(?:0000|d[89a-f])/i;

const storable = (payload: string): string =>
  unstorable.test(payload)
    ? JSON.stringify(JSON.parse(payload), (_key, value: unknown) =>
        typeof value === "string" ? value.replaceAll("\0", "\ufffd").toWellFormed() : value,
      )
    : payload;
