#!/usr/bin/env node
import { type Arguments, parseArguments, usage } from "./commands/arguments.ts";
import { checkConfig } from "./commands/check-config.ts";
import { exitCodeOf } from "./commands/exit-code.ts";
import { migrateCommand } from "./commands/migrate.ts";
import { serve } from "./commands/serve.ts";
import { ConfigError } from "./config/schema.ts";

const run = (given: Arguments): Promise<number> => {
  switch (given.command) {
    case "serve":
      return serve(given);
    case "migrate":
      return migrateCommand(given);
    case "check-config":
      return checkConfig(given);
  }
};

const parsed = parseArguments(process.argv.slice(2));
if (parsed.kind === "help") {
  console.log(usage);
} else if (parsed.kind === "wrong") {
  console.error(`mini-chat: ${parsed.message}\n\n${usage}`);
  process.exitCode = 2;
} else {
  try {
    process.exitCode = await run(parsed.given);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    console.error(error instanceof ConfigError ? text : `mini-chat: ${text}`);
    process.exitCode = exitCodeOf(error);
  }
}
