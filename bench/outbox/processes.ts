import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { OutboxConfig } from "../../packages/server/src/outbox/outbox.ts";
import type { QueueOptions } from "../../packages/server/src/outbox/queue.ts";
import { createLedger, type Ledger } from "./ledger.ts";

/** What a worker process is told on its command line, as JSON. */
export interface Assignment {
  readonly url: string;
  readonly name: string;
  /**
   * `record`: writes what it gets to `file`. `answer`: tells of each message at once. `refuse`: leaves
   * all it gets unattempted. `fail`: asks for all of it again.
   */
  readonly mode: "record" | "answer" | "refuse" | "fail";
  readonly file: string;
  /** How long the handler takes for what it gets at a time; default: no time. */
  readonly handlerMs?: number;
  readonly config?: Partial<OutboxConfig>;
  readonly queues?: QueueOptions;
}

export type Answer =
  | "ready"
  | "started"
  | { readonly tenantId: string; readonly number: number; readonly at: number };

export interface Worker {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly file: string;
  /** Lets it claim; resolves when it does. */
  begin(): Promise<void>;
  kill(): Promise<void>;
  /** SIGTERM; resolves when it has acknowledged all and is gone. */
  stop(): Promise<void>;
}

export interface WorkerOptions extends Omit<Assignment, "file"> {
  readonly dir: string;
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** A worker process that is registered and waits for `begin`. It never outlives the benchmark. */
export const startWorker = async ({ dir, nodeArgs, env, ...assignment }: WorkerOptions): Promise<Worker> => {
  const file = join(dir, `${assignment.name}.txt`);
  writeFileSync(file, "");
  const child = fork(new URL("worker.ts", import.meta.url), [JSON.stringify({ ...assignment, file })], {
    execArgv: [...(nodeArgs ?? [])],
    stdio: ["ignore", 2, 2, "ipc"],
    env: { PATH: process.env["PATH"] ?? "", ...env },
  });
  living.add(child);
  child.once("exit", () => living.delete(child));
  const next = async (): Promise<void> => {
    await Promise.race([
      once(child, "message"),
      once(child, "exit").then(() => {
        throw new Error(`${assignment.name} ended: ${child.exitCode ?? child.signalCode}`);
      }),
    ]);
  };
  await next();
  const gone = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  };
  return {
    pid: child.pid ?? 0,
    child,
    file,
    begin: async () => {
      const started = next();
      child.send("begin");
      await started;
    },
    kill: () => gone("SIGKILL"),
    stop: async () => {
      await gone("SIGTERM");
      if (child.exitCode !== 0) throw new Error(`${assignment.name} ended with ${child.exitCode}`);
    },
  };
};

/** A run of neighbouring messages of one key that a worker was handed at a moment. */
export interface Run {
  readonly worker: number;
  readonly key: number;
  readonly first: number;
  readonly last: number;
  /** ms of a clock all processes share. */
  readonly at: number;
}

/** What all workers in mode `record` were handed, in the order of time. */
export const recorded = (workers: readonly Pick<Worker, "file">[]): Run[] =>
  workers
    .flatMap(({ file }, worker) =>
      readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line): Run => {
          const [key = 0, first = 0, last = 0, at = 0] = line.split(" ").map(Number);
          return { worker, key, first, last, at };
        }),
    )
    .sort((a, b) => a.at - b.at);

/** The ledger of a set of runs. */
export const ledgerOf = (runs: readonly Run[], keys: number, perKey: number): Ledger => {
  const ledger = createLedger(keys, perKey);
  for (const { key, first, last } of runs) {
    for (let number = first; number <= last; number += 1) ledger.take(key, number);
  }
  return ledger;
};
