#!/usr/bin/env node
import { type Arguments, type ParsedArguments, parseArguments } from "./commands/arguments.ts";
import { checkConfig } from "./commands/check-config.ts";
import { cleanupCommand } from "./commands/cleanup.ts";
import { exitCodeOf } from "./commands/exit-code.ts";
import { migrateCommand } from "./commands/migrate.ts";
import { outboxCommand } from "./commands/outbox.ts";
import { purgeCommand } from "./commands/purge.ts";
import { ConfigError } from "./config/schema.ts";

const run = async (given: Arguments): Promise<number> => {
  switch (given.command) {
    case "serve": {
      // Most of the program: the other commands start in half the time without it.
      const { serve } = await import("./commands/serve.ts");
      return serve(given);
    }
    case "migrate":
      return migrateCommand(given);
    case "check-config":
      return checkConfig(given);
  }
};

/** What the command line asks for; help goes to standard output, complaints with their remedy do not. */
const main = (parsed: ParsedArguments): Promise<number> | number => {
  switch (parsed.kind) {
    case "run":
      return run(parsed.given);
    case "outbox":
      return outboxCommand(parsed.given);
    case "cleanup":
      return cleanupCommand(parsed.given);
    case "purge":
      return purgeCommand(parsed.given);
    case "help":
      console.log(parsed.text);
      return 0;
    case "wrong":
      console.error(`mini-chat: ${parsed.message}\n\n${parsed.text}`);
      return 2;
  }
};

try {
  process.exitCode = await main(parseArguments(process.argv.slice(2)));
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  console.error(error instanceof ConfigError ? text : `mini-chat: ${text}`);
  process.exitCode = exitCodeOf(error);
}
