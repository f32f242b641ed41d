import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A Node process of its own; it never outlives the benchmark. */
export interface Child {
  readonly pid: number;
  /** What it wrote so far, to standard output and standard error. */
  output(): string;
  /** Resolves with what the pattern found in the output; rejects when the process ends before. */
  printed(pattern: RegExp): Promise<RegExpExecArray>;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM; resolves when it is gone. Rejects with its output when it had to be killed after 45 s. */
  stop(): Promise<void>;
}

export interface ChildOptions {
  /** Gets the output: a file, so that reading it costs the process nothing. */
  readonly log: string;
  readonly nodeArgs?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

// What the server asks platforms to allow it.
const stopMs = 45_000;
const startMs = 60_000;
const pollMs = 2;

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

/** Starts a script of this repository under the Node that runs the benchmark. */
export const startChild = (script: string, args: readonly string[], options: ChildOptions): Child => {
  const log = openSync(options.log, "w");
  const child = spawn(process.execPath, [...(options.nodeArgs ?? []), script, ...args], {
    stdio: ["ignore", log, log],
    env: { PATH: process.env["PATH"] ?? "", ...options.env },
  });
  closeSync(log);
  living.add(child);
  let ended = false;
  child.once("exit", () => {
    ended = true;
    living.delete(child);
  });
  const output = (): string => readFileSync(options.log, "utf8");
  return {
    pid: child.pid ?? 0,
    output,
    printed: async (pattern) => {
      const giveUpAt = performance.now() + startMs;
      while (performance.now() < giveUpAt) {
        const over = ended;
        const found = pattern.exec(output());
        if (found !== null) return found;
        if (over) break;
        await sleep(pollMs);
      }
      throw new Error(`${script} did not print ${pattern}: ${output().slice(-4_000)}`);
    },
    signal: (name) => void child.kill(name),
    stop: async () => {
      if (ended) return;
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      let killed = false;
      const timer = setTimeout(() => {
        killed = child.kill("SIGKILL");
      }, stopMs);
      await gone;
      clearTimeout(timer);
      if (killed) throw new Error(`${script} did not stop: ${output().slice(-4_000)}`);
    },
  };
};
