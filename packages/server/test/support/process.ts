import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { testConfigTree } from "./config.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** A server process of its own, started through its command line. */
export interface ServerProcess {
  readonly pid: number;
  /** `http://127.0.0.1:PORT/v1`; empty in the role `worker`. */
  readonly base: string;
  readonly opsBase: string;
  /** Log lines so far, parsed. */
  readonly logs: Record<string, unknown>[];
  /** Resolves with the first log line, past or to come, that satisfies the condition. */
  logged(condition: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
  /** Sends SIGKILL and resolves when the process is gone. */
  kill(): Promise<void>;
  /** Sends the signal, SIGTERM by default, and resolves with the exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** Sends SIGTERM until the process has ended, as somebody who will not wait. */
  insist(): Promise<number | null>;
}

export interface ServerProcessOptions {
  readonly databaseUrl: string;
  readonly simulatorPort: number;
  /** Laid over the test configuration. */
  readonly config?: Tree;
  readonly env?: Readonly<Record<string, string>>;
  /** Kills the process, also one that is not ready yet. */
  readonly signal?: AbortSignal;
}

/** Starts `mini-chat serve` and resolves when it is ready; rejects with its output when it ends before. */
export const startServerProcess = async (options: ServerProcessOptions): Promise<ServerProcess> => {
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-process-"));
  const file = join(dir, "config.json");
  writeFileSync(file, JSON.stringify(overlay(testConfigTree(options), options.config ?? {})));
  const child = spawn(process.execPath, [main, "serve", "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH ?? "", ...options.env },
    killSignal: "SIGKILL",
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  // Aborting is reported here as well; what became of the process is told by its exit.
  child.on("error", () => {});
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      rmSync(dir, { recursive: true, force: true });
      resolve(code);
    });
  });
  const output = readLines(child);
  const ready = await Promise.race([output.logged((line) => line["msg"] === "ready"), exited]);
  if (ready === null || typeof ready === "number") {
    throw new Error(`the server process ended with ${ready}: ${output.text()}`);
  }
  const port = (name: string): string =>
    ready[name] === undefined ? "" : `http://127.0.0.1:${String(ready[name])}`;
  return {
    pid: child.pid ?? 0,
    base: port("api") === "" ? "" : `${port("api")}/v1`,
    opsBase: port("ops"),
    logs: output.lines,
    logged: output.logged,
    kill: async () => {
      child.kill("SIGKILL");
      await exited;
    },
    stop: (signal = "SIGTERM") => {
      child.kill(signal);
      return exited;
    },
    insist: () => {
      const again = setInterval(() => child.kill("SIGTERM"), 300);
      return exited.finally(() => clearInterval(again));
    },
  };
};

type Line = Record<string, unknown>;

const readLines = (
  child: ChildProcess,
): { lines: Line[]; text: () => string; logged: (condition: (line: Line) => boolean) => Promise<Line> } => {
  const lines: Line[] = [];
  const waiters = new Set<(line: Line) => void>();
  let errors = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on("line", (text) => {
      const line = JSON.parse(text) as Line;
      lines.push(line);
      for (const waiter of waiters) waiter(line);
    });
  }
  return {
    lines,
    text: () => `${errors}${lines.map((line) => JSON.stringify(line)).join("\n")}`,
    logged: (condition) => {
      const found = lines.find(condition);
      if (found !== undefined) return Promise.resolve(found);
      return new Promise((resolve) => {
        const waiter = (line: Line): void => {
          if (!condition(line)) return;
          waiters.delete(waiter);
          resolve(line);
        };
        waiters.add(waiter);
      });
    },
  };
};
