import { startEmbedded } from "../db/embedded.ts";
import { migrate } from "../db/migrate.ts";
import { MigrationError } from "../db/migration.ts";
import { asDatabaseError } from "../db/unusable.ts";
import { invariant } from "../lib/assert.ts";
import type { Arguments } from "./arguments.ts";
import { configurationOf } from "./configuration.ts";

/** `mini-chat migrate [--dry-run]` (data.md §7). Throws `MigrationError`, `EmbeddedError`, `DatabaseError`. */
export const migrateCommand = async (given: Arguments): Promise<number> => {
  const { config } = configurationOf(given, 1);
  const { database } = config;
  const embedded = database.mode === "embedded" ? await startEmbedded({ dataDir: database.data_dir }) : null;
  const url = embedded?.url ?? database.direct_url?.reveal() ?? database.url?.reveal();
  invariant(url !== undefined, "an external database has its url");
  try {
    const report = await migrate({ url, mode: "auto", dryRun: given.dryRun });
    const [verb, files] = given.dryRun ? ["would apply", report.pending] : ["applied", report.applied];
    for (const { name } of files) console.log(`${verb} ${name}`);
    if (files.length === 0) console.log("the schema is up to date");
    return 0;
  } catch (error) {
    throw error instanceof MigrationError ? error : asDatabaseError(error);
  } finally {
    await embedded?.stop();
  }
};
