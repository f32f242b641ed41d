import { createAuthenticator } from "../auth/authenticate.ts";
import type { LicenseGate } from "../auth/license.ts";
import { isTransient } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { createOpsServer, type OpsServer } from "../http/ops-server.ts";
import { type ApiServer, createHttpServer, type HttpServer } from "../http/server.ts";
import type { Handlers } from "../outbox/message.ts";
import { queueKinds, queueSettings } from "../outbox/queue.ts";
import { registerOutboxAdmin } from "../outbox/routes.ts";
import { pageDirectory, readBuiltPage } from "../page/built.ts";
import { registerPage } from "../page/routes.ts";
import { registerPolicyNotify } from "../policy/routes.ts";
import type { Overrides } from "./given.ts";
import { createAppHealth } from "./health.ts";
import { registerOperations } from "./routes.ts";
import { type Draining, within } from "./shutdown.ts";
import { type Parts, turnDeps } from "./turn-deps.ts";

/** The database is busy or away: the client may come again (ops.md §2.2). */
const toRefusal = (error: unknown): AppError | undefined =>
  isTransient(error)
    ? new AppError("service_unavailable", {
        detail: "The database is not available.",
        headers: { "retry-after": "5" },
        cause: error,
      })
    : undefined;

/** Both listeners, not yet bound. */
export const createListeners = (
  parts: Parts,
  bound: { readonly licenseGate: LicenseGate; readonly delivery: { readonly handlers: Handlers } },
  overrides: Overrides,
  draining: Draining,
): { readonly api: HttpServer; readonly ops: OpsServer } => {
  const { config, db, logger, metrics, policy } = parts;
  const health = createAppHealth({
    config,
    db,
    isDraining: () => draining.unready,
    policyLoaded: () => policy.everLoaded,
    served: queueKinds.filter((kind) => bound.delivery.handlers[kind] !== "keep_waiting"),
  });
  const turns = turnDeps(parts);
  const common = { config, logger, metrics, health, translateError: toRefusal };
  return {
    ops: createOpsServer({
      ...common,
      register: (ops) => {
        registerPolicyNotify(ops, { policy, token: config.internal.api_token });
        registerOutboxAdmin(ops, {
          db,
          logger,
          metrics,
          flush: parts.outbox.flush,
          queues: queueSettings(config.outbox),
          token: config.server.admin_token,
          retentionDays: config.outbox.dead_letter_retention_days,
        });
      },
    }),
    api: createHttpServer({
      ...common,
      authenticator: createAuthenticator(config.auth, { ...overrides, logger }),
      licenseGate: bound.licenseGate,
      isDraining: () => draining.refusing,
      register: (api) => registerOperations(api, parts, turns),
      registerRoot: (root) => offerPage(root, parts),
    }),
  };
};

/** Without a built page the API is served alone. */
const offerPage = (root: ApiServer, { config, logger }: Pick<Parts, "config" | "logger">): void => {
  if (!config.server.web_enabled || config.role === "worker") return;
  const page = readBuiltPage(pageDirectory);
  if (page === null) logger.warn({}, "the page is not built (npm run build); the API is served without it");
  else registerPage(root, page, config);
};

const lastAnswersMs = 2_000;

/**
 * Closes a listener. What is still connected then is a client that does not read, or an answer that takes
 * longer than a stop has time for: it is cut off.
 */
export const closeListener = async ({ app, close }: Pick<HttpServer, "app" | "close">): Promise<void> => {
  const closed = close();
  if (await within(lastAnswersMs, closed)) return;
  app.server.closeAllConnections();
  await closed;
};
