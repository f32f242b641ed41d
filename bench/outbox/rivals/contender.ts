import type pg from "pg";
import type { UsageEvent } from "../../../packages/server/src/outbox/events.ts";
import { tenants, usageEvent } from "../queue.ts";

/** What a contender is told of each message handed to its handler. */
export type Take = (key: number, number: number) => void;

export interface Contender {
  readonly name: string;
  /** What it promises about order, and how it is set up: part of the result. */
  readonly set_up: string;
  /** Share of the messages it gets: whoever needs minutes for all of them gets fewer. */
  readonly share: number;
  /** Installs its tables. */
  install(url: string): Promise<void>;
  /** Writes neighbouring messages of one key in one transaction. */
  enqueue(key: number, numbers: readonly number[]): Promise<void>;
  /** Writes one message in a transaction that is already open; null: it brings its own transactions. */
  readonly enqueueWith: ((client: pg.ClientBase, key: number, number: number) => Promise<unknown>) | null;
  /** Starts to deliver to a handler that does nothing but call `take`. */
  start(url: string, take: Take): Promise<void>;
  /** Messages that are not acknowledged. */
  left(): Promise<number>;
  stop(): Promise<void>;
  /** Removes its tables. */
  uninstall(): Promise<void>;
}

export const payloadOf = (key: number, number: number): UsageEvent => usageEvent(tenants[key] ?? "", number);

/**
 * Where workers acknowledge without waiting for the disk, as ours do: what is lost with the server is
 * delivered again. Producers wait.
 */
export const workerUrl = (url: string): string =>
  `${url}&options=${encodeURIComponent("-c synchronous_commit=off")}`;
