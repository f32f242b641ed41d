#!/usr/bin/env node
import { parseArgs } from "node:util";
import { startSimulator } from "./simulator.ts";

const DEFAULT_PORT = 4010;

const usage = `mini-chat-simulator [--host HOST] [--port PORT]

Plays model providers on HOST (default 127.0.0.1) and PORT (default ${DEFAULT_PORT}; 0 takes a free one).
`;

const fail = (message: string): never => {
  process.stderr.write(`${message}\n`);
  process.exit(1);
};

const options = (): { host: string; port: number } | "help" => {
  const { values } = parseArgs({
    options: { host: { type: "string" }, port: { type: "string" }, help: { type: "boolean", short: "h" } },
  });
  if (values.help === true) return "help";
  const port = Number(values.port ?? DEFAULT_PORT);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new Error("--port must be from 0 to 65535");
  return { host: values.host ?? "127.0.0.1", port };
};

const run = async (): Promise<void> => {
  const chosen = options();
  if (chosen === "help") {
    process.stdout.write(usage);
    return;
  }
  const simulator = await startSimulator(chosen);
  process.stdout.write(`${simulator.url}\n`);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    // Once only: a second signal ends the process at once.
    process.once(signal, () => void simulator.close());
  }
};

run().catch((error: unknown) => fail(error instanceof Error ? error.message : String(error)));
