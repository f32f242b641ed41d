import { type Evidence, forgettable, type Handed, type Tell } from "./evidence.ts";
import type { Batch } from "./journal.ts";

export interface Repetitions {
  /** Came again because the handler had asked for it, or had not got to it. */
  readonly asked_again: number;
  /** Came again because the lease ran out: by what became of the process that held it. */
  readonly duplicates: {
    readonly killed: number;
    readonly lease_lost: number;
    readonly database_crash: number;
  };
}

const clockSlackMs = 20;

/**
 * Why messages came again. A message whose handler finished it, or whose process died before telling, may
 * come again only once the lease of that hand-over has run out: at least `leaseMs` after the claim was
 * sent, by a clock all processes share. And something must have kept its holder from acknowledging in
 * time: it was killed, or it lived and counted the lease as lost. Anything else is a violation.
 */
export const checkRepetitions = (
  { journals, leaseMs, crash }: Evidence,
  keys: ReadonlyMap<string, readonly Handed[]>,
  late: ReadonlySet<Batch>,
  tell: Tell,
): Repetitions => {
  const holders = new Map(journals.map((journal) => [journal.process, journal]));
  const duplicates = { killed: 0, lease_lost: 0, database_crash: 0 };
  let asked = 0;
  const explain = (key: string, before: Handed, after: Handed): void => {
    const { batch, letter, number } = before;
    if (letter === "r" || letter === "-") {
      asked += 1;
      return;
    }
    if (crash !== null && forgettable(batch, crash) && after.batch.at > crash.from) {
      duplicates.database_crash += 1;
      return;
    }
    if (after.batch.at < batch.claimedAt + leaseMs - clockSlackMs) {
      tell(`${key}: ${number} came again although the lease of ${batch.process} still ran`);
    }
    const holder = holders.get(batch.process);
    if ((holder?.killedAt ?? 0) > batch.at) duplicates.killed += 1;
    else if (holder?.lost.some(({ kind, at }) => kind === batch.kind && at > batch.at) === true) {
      duplicates.lease_lost += 1;
    } else tell(`${key}: ${number} came again although ${batch.process} lived and had lost no lease`);
  };
  for (const [key, handed] of keys) {
    const last = new Map<number, Handed>();
    for (const one of handed) {
      if (late.has(one.batch)) continue;
      const before = last.get(one.number);
      if (before !== undefined) explain(key, before, one);
      last.set(one.number, one);
    }
  }
  return { asked_again: asked, duplicates };
};
