import { printConfig } from "../config/print.ts";
import type { Arguments } from "./arguments.ts";
import { configurationOf } from "./configuration.ts";

/** `mini-chat check-config`: prints the effective configuration, secrets masked (ops.md §2.1). */
export const checkConfig = async (given: Arguments): Promise<number> => {
  // Any port: nothing is started.
  const { config, warnings } = configurationOf(given, 1);
  for (const { key, message } of warnings) console.error(`warning: ${key}: ${message}`);
  process.stdout.write(printConfig(config));
  return 0;
};
