import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArguments } from "../../src/commands/arguments.ts";
import { exitCodeOf } from "../../src/commands/exit-code.ts";
import { outboxCommand } from "../../src/commands/outbox.ts";
import { purgeCommand } from "../../src/commands/purge.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { testConfigTree } from "../support/config.ts";

export const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandLine {
  /** In this process, which saves a start each time. */
  run(...args: readonly string[]): Promise<Ran>;
  /** With `--json`: what was printed; throws with what went wrong unless it ends with 0. */
  json(...args: readonly string[]): Promise<unknown>;
  /** In a process of its own, as an operator does. */
  start(...args: readonly string[]): Promise<Ran>;
  /** As `start`; the process is killed when the signal fires. */
  startMortal(killed: AbortSignal, ...args: readonly string[]): Promise<Ran>;
  remove(): void;
}

/** `mini-chat` with the test configuration of this database. */
export const commandLine = (databaseUrl: string, change: Tree = {}): CommandLine => {
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-command-"));
  const file = join(dir, "mini-chat.json");
  writeFileSync(file, JSON.stringify(overlay(testConfigTree({ databaseUrl, simulatorPort: 1 }), change)));
  const run = (...args: readonly string[]): Promise<Ran> => runHere([...args, "--config", file]);
  return {
    run,
    start: (...args) => runCommand([...args, "--config", file]),
    startMortal: (killed, ...args) => runCommand([...args, "--config", file], { killed }),
    json: async (...args) => {
      const { code, stdout, stderr } = await run(...args, "--json");
      if (code !== 0) throw new Error(`ended with ${code}: ${stderr}${stdout}`);
      return JSON.parse(stdout);
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
};

const runHere = async (args: readonly string[]): Promise<Ran> => {
  const parsed = parseArguments(args);
  if (parsed.kind !== "outbox" && parsed.kind !== "purge") {
    throw new Error(`no command of an operator: ${JSON.stringify(parsed)}`);
  }
  let [stdout, stderr] = ["", ""];
  const output = {
    answer: (text: string) => {
      stdout += text;
    },
    aside: (text: string) => {
      stderr += text;
    },
  };
  try {
    const code = await (parsed.kind === "outbox"
      ? outboxCommand(parsed.given, output)
      : purgeCommand(parsed.given, output));
    return { code, stdout, stderr };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: exitCodeOf(error), stdout, stderr: `${stderr}${message}` };
  }
};

/** Runs `mini-chat` in a process of its own. */
export const runCommand = (
  args: readonly string[],
  options: { readonly cwd?: string; readonly killed?: AbortSignal } = {},
): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [main, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env.PATH ?? "" },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    options.killed?.addEventListener("abort", () => child.kill("SIGKILL"));
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
