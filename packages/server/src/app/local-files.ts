import type { Config } from "../config/schema.ts";
import type { DirectConnection } from "../db/direct.ts";
import { type Db, sqlState } from "../db/pool.ts";
import type { LocalStorageOf } from "../providers/storage/registry.ts";
import { startIndexer } from "../retrieval/indexer.ts";
import { createLocalStorage } from "../retrieval/local-storage.ts";
import { sweepLocalFiles } from "../retrieval/sweep.ts";
import type { Logger } from "../telemetry/log.ts";
import { jobLocks, startLeaderJob } from "./jobs.ts";
import type { Opened } from "./shutdown.ts";
import type { Parts } from "./turn-deps.ts";

const keepsFiles = ({ providers }: Pick<Config, "providers">): boolean =>
  Object.values(providers).some((entry) => entry.storage_kind === "local");

/** The storage of providers whose files we keep, with its indexer; undefined where there is no such provider. */
export const openLocalFiles = (
  { config, db, logger }: { readonly config: Config; readonly db: Db; readonly logger: Logger },
  opened: Opened[],
): LocalStorageOf | undefined => {
  if (!keepsFiles(config)) return undefined;
  const indexer = startIndexer(db, {
    onError: (error) => {
      // The database's own words may quote the document: its code tells enough.
      const code = sqlState(error);
      logger.warn(
        code === undefined ? { err: error } : { error_code: code },
        "documents not indexed, tried again",
      );
    },
  });
  opened.push({ name: "document indexer", close: () => indexer.stop() });
  return (labels) => {
    const uploadTimeoutMs = uploadTimeoutSecs(config, labels.providerId) * 1_000;
    return createLocalStorage({ db, indexer, uploadTimeoutMs, ...labels });
  };
};

type UploadTimes = Pick<Config, "providers" | "egress">;

const uploadTimeoutSecs = ({ providers, egress }: UploadTimes, providerId: string): number =>
  providers[providerId]?.timeouts.upload_timeout_secs ?? egress.upload_timeout_secs;

/** After this time a file that no attachment names has none on its way, at whichever provider. */
export const sweepGraceSecs = (config: UploadTimes): number =>
  Math.max(3_600, ...Object.keys(config.providers).map((id) => 2 * uploadTimeoutSecs(config, id)));

/** Removes what uploads that died have left. */
export const startLocalSweep = (parts: Parts, direct: DirectConnection, opened: Opened[]): void => {
  if (!keepsFiles(parts.config)) return;
  const graceSecs = sweepGraceSecs(parts.config);
  const job = startLeaderJob(
    { ...parts, direct },
    {
      name: "local_file_sweep",
      lockId: jobLocks.localSweep,
      intervalMs: 3_600_000,
      run: async () => {
        await sweepLocalFiles(parts.db, { graceSecs, limit: 500 });
      },
    },
  );
  opened.push({ name: "local file sweep", close: job.stop });
};
