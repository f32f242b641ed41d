import { registerAttachmentRoutes } from "../attachments/routes.ts";
import { markChatAttachmentsForCleanup } from "../attachments/store.ts";
import { registerChatRoutes } from "../chats/routes.ts";
import { registerExportRoutes } from "../export/routes.ts";
import type { ApiServer } from "../http/server.ts";
import { registerMessageRoutes } from "../messages/routes.ts";
import { registerModelRoutes } from "../policy/routes.ts";
import { registerQuotaRoutes } from "../quota/routes.ts";
import { registerSearchRoutes } from "../search/routes.ts";
import { stopTurns } from "../turns/cancel.ts";
import { registerMutationRoutes } from "../turns/mutation-routes.ts";
import { type ResumeRoutesDeps, registerResumeRoutes } from "../turns/resume-routes.ts";
import { registerTurnRoutes, type TurnRoutesDeps } from "../turns/routes.ts";
import { requestCancel } from "../turns/store.ts";
import { attachmentDeps } from "./attachment-deps.ts";
import type { Parts } from "./turn-deps.ts";

/** Every operation of the public API, in the order the document lists them (api.md §2). */
export const registerOperations = (
  api: ApiServer,
  parts: Parts,
  turns: TurnRoutesDeps & ResumeRoutesDeps,
): void => {
  const { db, authorizer, policy, outbox, config } = parts;
  registerChatRoutes(api, {
    db,
    authorizer,
    policy,
    outbox,
    apiRoot: turns.apiRoot,
    markAttachments: markChatAttachmentsForCleanup,
    flagRunningTurns: (tx, tenantId, chatId) => requestCancel(tx, tenantId, chatId, null, "chat_deleted"),
    stopTurns: (turnIds) => stopTurns(turns, turnIds, "chat_deleted"),
  });
  registerMessageRoutes(api, { db, authorizer });
  registerAttachmentRoutes(api, attachmentDeps(parts, turns.apiRoot));
  registerExportRoutes(api, { db, authorizer, stalledMs: turns.stalledMs });
  registerSearchRoutes(api, { db, authorizer });
  registerTurnRoutes(api, turns);
  registerMutationRoutes(api, turns);
  registerResumeRoutes(api, turns);
  registerModelRoutes(api, { authorizer, policy });
  registerQuotaRoutes(api, {
    db,
    authorizer,
    policy,
    warningThresholdPct: config.quota.warning_threshold_pct,
  });
};
