import { type Db, type Statement, sqlState } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

export interface TableSinkOptions {
  readonly db: Db;
  /** Takes parallel arrays of keys, message ids, tenants and events; does nothing with a key it knows. */
  readonly insert: Statement;
  /** Makes the table where no migration has; run once before the first event. */
  readonly create?: string | undefined;
  readonly close?: (() => Promise<void>) | undefined;
}

// Data the table cannot take (22, 23) it will not take the next time; anything else may pass.
const permanentClass = /^2[23]/;

/**
 * Writes events into a table, a batch per transaction, for those who want to query them. An event that
 * comes again finds its key and changes nothing, so each is there exactly once.
 */
export const createTableSink = ({ db, insert, create, close }: TableSinkOptions): Sink => {
  let ready: Promise<unknown> | null = null;
  const prepare = (): Promise<unknown> => {
    if (create === undefined) return Promise.resolve();
    ready ??= db.query(create).catch((error: unknown) => {
      ready = null;
      throw error;
    });
    return ready;
  };
  return {
    grouping: "batch",
    publish: async (deliveries) => {
      try {
        await prepare();
        await inTransaction(db, (tx) => tx.query(insert, columnsOf(deliveries)));
      } catch (error) {
        const state = sqlState(error) ?? "";
        const kind = permanentClass.test(state) ? "permanent" : "transient";
        throw new PublishError(kind, `the table did not take it${state && ` (${state})`}`, error);
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

// An escaped U+0000 is JSON, but no text the database can hold. An even number of backslashes before it
// is not an escape of it.
const storable = (payload: string): string =>
  payload.includes("\\u0000") ? payload.replaceAll(/(?<!\\)((?:\\\\)*)\\u0000/g, "$1\\ufffd") : payload;
