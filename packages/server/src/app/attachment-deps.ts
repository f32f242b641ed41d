import { createPermits } from "../attachments/permits.ts";
import type { AttachmentRoutesDeps } from "../attachments/routes.ts";
import type { Parts } from "./turn-deps.ts";

/** What the routes of attachments need, from the configuration and the parts of the process. */
export const attachmentDeps = (parts: Parts, apiRoot: string): AttachmentRoutesDeps => {
  const { config } = parts;
  const { rag } = config;
  return {
    db: parts.db,
    outbox: parts.outbox,
    authorizer: parts.authorizer,
    policy: parts.policy,
    storage: parts.storage,
    uploads: parts.uploads,
    metrics: parts.metrics,
    logger: parts.logger,
    apiRoot,
    beginTimeoutMs: config.server.request_timeout_secs * 1_000,
    limits: rag,
    permits: createPermits({
      process: rag.max_concurrent_uploads,
      user: rag.max_concurrent_uploads_per_user,
    }),
    allowCsv: rag.allow_csv_upload,
    imageBytesPerDay: config.quota.image_upload_bytes_daily_quota,
    thumbnails: config.thumbnail,
    indexWaitMs: rag.index_wait_secs * 1_000,
    docSummaries: config.doc_summary.enabled,
  };
};
