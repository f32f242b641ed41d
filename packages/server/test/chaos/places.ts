import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { EmbeddedPostgres } from "../../src/db/embedded.ts";
import type { Db } from "../../src/db/pool.ts";
import { type Journal, readJournal } from "./journal.ts";
import type { ChaosOptions, Role } from "./plan.ts";
import { sharedNow } from "./world.ts";

const scripts = {
  worker: new URL("worker.ts", import.meta.url),
  producer: new URL("producer.ts", import.meta.url),
} as const;
/** A place of the plan and the process that has it now. */
export interface Place {
  readonly role: Role;
  readonly number: number;
  incarnation: number;
  child: ChildProcess;
  /** Resolves when the process works, or is gone. */
  ready: Promise<unknown>;
  name: string;
  file: string;
  /** Of processes that had the place before. */
  readonly journals: Journal[];
}

/** Where it all plays. */
export interface Stage {
  readonly dir: string;
  readonly db: Db;
  readonly server: EmbeddedPostgres;
}

/** Gives a place its first process. */
export const occupy = (
  { role, number }: Pick<Place, "role" | "number">,
  options: ChaosOptions,
  stage: Stage,
): Place => ({
  role,
  number,
  journals: [],
  ...occupant({ role, number, incarnation: 0 }, options, stage),
});

/** Starts the next process of a place. */
export const occupant = (
  { role, number, incarnation }: Pick<Place, "role" | "number" | "incarnation">,
  { seed, leaseMs }: ChaosOptions,
  { dir, server }: Stage,
): Pick<Place, "incarnation" | "child" | "ready" | "name" | "file"> => {
  const name = `${role}-${number}.${incarnation + 1}`;
  const file = join(dir, `${name}.jsonl`);
  writeFileSync(file, "");
  const assignment = JSON.stringify({ url: server.url, seed, leaseMs, name, file });
  const child = fork(scripts[role], [assignment], { execArgv: [], stdio: ["ignore", 2, 2, "ipc"] });
  const ready = Promise.race([once(child, "message"), once(child, "exit")]);
  return { incarnation: incarnation + 1, child, ready, name, file };
};

const isOver = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

/** `kill -9`; resolves when the process is gone and its journal read. */
export const kill = async (place: Place): Promise<void> => {
  const { child, name } = place;
  if (isOver(child)) throw new Error(`${name} ended by itself: ${child.exitCode ?? child.signalCode}`);
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
  // Only now: it may have taken a batch before the signal reached it.
  place.journals.push(readJournal(place.file, name, sharedNow()));
};

/** SIGTERM; resolves when the process is gone and its journal read. */
export const stop = async (place: Place): Promise<void> => {
  const { child, name } = place;
  await place.ready;
  if (!isOver(child)) {
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    await exited;
  }
  if (child.exitCode !== 0) throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode}`);
  place.journals.push(readJournal(place.file, name, null));
};
