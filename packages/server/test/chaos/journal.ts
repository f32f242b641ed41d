import { readFileSync } from "node:fs";
import type { ChaosKind } from "./world.ts";

/** One letter per message of a batch, parallel to what was handed over. */
export const verdictLetters = {
  done: "d",
  already_terminal: "d",
  reject: "x",
  retry: "r",
  none: "-",
} as const;

/** Tenant, number of the key, id in the table, message id, attempts. */
export type HandedMessage = readonly [
  tenantId: string,
  number: number,
  id: number,
  messageId: string,
  attempts: number,
];

/** What a worker writes, in order; times are of `sharedNow`. */
export type Entry =
  | {
      readonly e: "take";
      readonly batch: number;
      readonly kind: ChaosKind;
      readonly at: number;
      /** Before the claim was sent: the lease lasts at least `leaseMs` from here. */
      readonly claimedAt: number;
      readonly partition: number;
      readonly messages: readonly HandedMessage[];
    }
  | { readonly e: "end"; readonly batch: number; readonly at: number; readonly verdicts: string }
  | { readonly e: "lost"; readonly kind: string; readonly at: number };

/** A batch as it was handed to a handler, and what became of it. */
export interface Batch {
  readonly process: string;
  readonly kind: ChaosKind;
  readonly at: number;
  readonly claimedAt: number;
  readonly partition: number;
  readonly messages: readonly HandedMessage[];
  /** Null where the process died under it. */
  end: { readonly at: number; readonly verdicts: string } | null;
}

/** The life of one worker process. */
export interface Journal {
  readonly process: string;
  readonly batches: readonly Batch[];
  /** Leases it found lost while it lived. */
  readonly lost: readonly { readonly kind: string; readonly at: number }[];
  /** When it was gone, if it was killed. */
  readonly killedAt: number | null;
}

/** Reads what a process wrote. A kill may have cut the last line. */
export const readJournal = (file: string, process: string, killedAt: number | null): Journal => {
  const batches = new Map<number, Batch>();
  const lost: { kind: string; at: number }[] = [];
  for (const line of readFileSync(file, "utf8").split("\n").slice(0, -1)) {
    const entry = JSON.parse(line) as Entry;
    if (entry.e === "lost") lost.push(entry);
    else if (entry.e === "end") {
      const batch = batches.get(entry.batch);
      if (batch !== undefined) batch.end = entry;
    } else batches.set(entry.batch, { ...entry, process, end: null });
  }
  return { process, batches: [...batches.values()], lost, killedAt };
};
