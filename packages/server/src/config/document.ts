import { z } from "zod";
import { secs } from "./fields.ts";
import { authSection, authzSection, clientCredentialsSection, licenseSection } from "./identity.ts";
import { pageSection } from "./page.ts";
import { pluginsSection, policyCacheSection } from "./policy.ts";
import {
  auditSection,
  contextSection,
  docSummarySection,
  estimationBudgetsSection,
  quotaSection,
  ragSection,
  resumeSection,
  retentionSection,
  streamingSection,
  thumbnailSection,
} from "./product.ts";
import { egressSection, providersSection } from "./providers.ts";
import {
  databaseSection,
  internalSection,
  logSection,
  metricsSection,
  serverSection,
  tracingSection,
} from "./server.ts";
import {
  cleanupWorkerSection,
  orphanWatchdogSection,
  outboxSection,
  reconcileSection,
  threadSummaryWorkerSection,
} from "./workers.ts";

/** Every key of ops.md §2.2–2.4 with its type, default and range. Rules between keys are in `check.ts`. */
export const configDocument = z.strictObject({
  role: z.enum(["all", "api", "worker"]).default("all"),
  url_prefix: z
    .string()
    // Of unreserved characters (RFC 3986): the router gives others, such as a colon, a meaning of their own.
    .regex(
      /^(\/[A-Za-z0-9._~-]+)*$/,
      "must be empty, or '/' and letters, digits, '.', '_', '~' and '-', once or several times",
    )
    .default(""),
  server: serverSection,
  page: pageSection,
  internal: internalSection,
  database: databaseSection,
  auth: authSection,
  authz: authzSection,
  client_credentials: clientCredentialsSection,
  license: licenseSection,
  shutdown_grace_secs: secs(25, 0, 3_600),
  worker_stop_timeout_secs: secs(5, 1, 60),
  shutdown_ready_delay_secs: secs(3, 0, 30),
  instance_lease_secs: secs(30, 15, 300),
  log: logSection,
  metrics: metricsSection,
  tracing: tracingSection,
  streaming: streamingSection,
  resume: resumeSection,
  quota: quotaSection,
  estimation_budgets: estimationBudgetsSection,
  context: contextSection,
  rag: ragSection,
  thumbnail: thumbnailSection,
  doc_summary: docSummarySection,
  audit: auditSection,
  plugins: pluginsSection,
  policy_cache: policyCacheSection,
  providers: providersSection,
  egress: egressSection,
  retention: retentionSection,
  outbox: outboxSection,
  orphan_watchdog: orphanWatchdogSection,
  thread_summary_worker: threadSummaryWorkerSection,
  cleanup_worker: cleanupWorkerSection,
  reconcile: reconcileSection,
});

/** The validated configuration; keys are spelled as in the file. */
export type Config = z.output<typeof configDocument>;
