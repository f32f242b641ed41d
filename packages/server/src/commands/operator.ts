import { randomUUID } from "node:crypto";
import type { Config } from "../config/schema.ts";
import type { Db } from "../db/pool.ts";
import { stringifyJson } from "../lib/json.ts";
import { createLogger, type Logger } from "../telemetry/log.ts";
import { version } from "../version.ts";
import { configurationOf } from "./configuration.ts";
import type { OperatorArguments } from "./operator-arguments.ts";
import { openOperatorDatabase } from "./operator-database.ts";

/** What a command says: for machines, for people, and as its exit code. */
export interface Answer {
  readonly json: unknown;
  readonly text: string;
  readonly code?: 0 | 1;
}

/** Where a command writes: the answer, and beside it what people and logs are told. */
export interface Output {
  answer(text: string): void;
  aside(text: string): void;
}

export const standardOutput: Output = {
  answer: (text) => process.stdout.write(text),
  aside: (text) => process.stderr.write(text),
};

export interface Operation {
  readonly config: Config;
  readonly db: Db;
  readonly logger: Logger;
  /** Tells people, on standard error, how far long work is. */
  readonly progress: (text: string) => void;
}

/** Does an operator's work on the database and prints its answer. Resolves with the exit code. */
export const operate = async (
  given: OperatorArguments,
  output: Output,
  work: (operation: Operation) => Promise<Answer>,
): Promise<number> => {
  const { config } = configurationOf(given, 1);
  const { db, close } = await openOperatorDatabase(config);
  const logger = createLogger(
    config.log,
    { version, instance_id: randomUUID(), role: "operator" },
    { write: (line) => output.aside(line) },
  );
  try {
    const {
      json,
      text,
      code = 0,
    } = await work({
      config,
      db,
      logger,
      progress: (line) => output.aside(`${line}\n`),
    });
    output.answer(`${given.json ? stringifyJson(json) : text}\n`);
    return code;
  } finally {
    await close();
  }
};
