import { PluginError } from "../app/plugin-error.ts";
import { ConfigError } from "../config/schema.ts";
import { EmbeddedError } from "../db/embedded-account.ts";
import { MigrationError } from "../db/migration.ts";
import { sqlState } from "../db/pool.ts";
import { isTransient } from "../db/tx.ts";
import { DatabaseError } from "../db/unusable.ts";
import { OutboxError } from "../outbox/enqueuer.ts";
import { UsageError } from "./flags.ts";

/** Exit codes of ops.md §1: 1 runtime failure, 2 configuration, 3 database or migration. */
export const exitCodeOf = (error: unknown): 1 | 2 | 3 => {
  if (error instanceof ConfigError || error instanceof PluginError || error instanceof UsageError) return 2;
  const ofDatabase =
    error instanceof MigrationError ||
    error instanceof EmbeddedError ||
    error instanceof DatabaseError ||
    error instanceof OutboxError ||
    isTransient(error) ||
    sqlState(error) !== undefined;
  return ofDatabase ? 3 : 1;
};
