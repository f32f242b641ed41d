import { findNamedAttachments } from "../attachments/store.ts";
import type { Actor } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import { enterChat } from "../chats/open.ts";
import type { Db } from "../db/pool.ts";
import { AppError } from "../errors.ts";
import type { PolicyService } from "../policy/service.ts";
import type { EffectivePolicy } from "../policy/snapshot.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { requestFingerprint } from "./fingerprint.ts";
import type { NamedTurn } from "./retire.ts";
import { findTurnsForSend, type TurnLookup } from "./store.ts";

/** A parsed send; nothing of it names a tenant or a user. */
export interface SendRequest {
  readonly chatId: string;
  /** The client's idempotency key, or made by the server. */
  readonly requestId: string;
  /** As received, untrimmed. */
  readonly content: string;
  readonly attachmentIds: readonly string[];
  readonly webSearch: boolean;
  readonly onDisconnect: "cancel" | "continue";
  readonly traceId: string;
  /** W3C header for the provider call. */
  readonly traceparent: string;
  /** `performance.now()` when the request arrived. */
  readonly receivedAt: number;
}

/** What the reads before the transaction found. */
export type Preflight =
  | { readonly kind: "plan"; readonly plan: Plan }
  | { readonly kind: "replay"; readonly turn: TurnLookup; readonly selectedModel: string };

/** A send, retry or edit that may proceed to its transaction. */
export interface Plan {
  readonly request: SendRequest;
  readonly actor: Actor;
  readonly fingerprint: Buffer;
  readonly selectedModel: string;
  readonly policy: EffectivePolicy;
  /** The turn whose place the new one takes (turns.md §15); null for a send. */
  readonly replaces: (NamedTurn & { readonly op: "retry" | "edit" }) | null;
}

export interface PreflightDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
  readonly policy: Pick<PolicyService, "resolve">;
  readonly metrics: Metrics;
  readonly maxImagesPerMessage: number;
  /** `{prefix}/v1`, for `Location`. */
  readonly apiRoot: string;
}

/**
 * Rows 3–10 of turns.md §4.2, strictly in that order: reads only, no stream is open and nothing is
 * written. What may have changed by the time of the transaction is checked again there.
 */
export const preflight = async (
  deps: PreflightDeps,
  actor: Actor,
  request: SendRequest,
): Promise<Preflight> => {
  refuseBlank(request.content);
  const selectedModel = await visibleChat(deps, actor, request.chatId);
  const fingerprint = requestFingerprint(request);
  const { same, otherRuns } = await findTurnsForSend(
    deps.db,
    actor.tenantId,
    request.chatId,
    request.requestId,
  );
  if (same !== null) {
    refuseUnlessReplay(deps.apiRoot, request.chatId, same, fingerprint);
    return { kind: "replay", turn: same, selectedModel };
  }
  if (otherRuns) throw generationInProgress();
  const policy = await admitRequest(deps, actor, request);
  return { kind: "plan", plan: { request, actor, fingerprint, selectedModel, policy, replaces: null } };
};

/** Row 3. */
export const refuseBlank = (content: string): void => {
  if (content.trim() !== "") return;
  const message = "must not be blank";
  throw new AppError("invalid_request", {
    detail: `content ${message}.`,
    errors: [{ field: "content", message }],
  });
};

/** Rows 8–10, of a send, a retry or an edit; returns the policy that applies. */
export const admitRequest = async (
  deps: PreflightDeps,
  actor: Actor,
  request: SendRequest,
): Promise<EffectivePolicy> => {
  await limitImages(deps, actor, request);
  const policy = await deps.policy.resolve(actor);
  if (request.webSearch && policy.snapshot.killSwitches.disableWebSearch) {
    deps.metrics.count("web_search_disabled");
    throw new AppError("web_search_disabled", { detail: "Web search is switched off." });
  }
  return policy;
};

/** Rows 4–5: the chat as the caller sees it, then leave to send; returns the selected model. */
const visibleChat = async (deps: PreflightDeps, actor: Actor, chatId: string): Promise<string> => {
  const { model } = await enterChat(deps, actor, chatId, "read", {
    notFound: "Error",
    forbidden: "Forbidden",
  });
  const send = await deps.authorizer
    .authorize(actor, { resourceType: "chat", action: "send_message", resourceId: chatId })
    .catch((error: unknown) => {
      throw asSendRefusal(error);
    });
  if (!send.admits({ id: chatId })) throw new AppError("forbidden", { title: "Forbidden" });
  return model;
};

/** The title of a refused send differs from that of other routes (api.md §5.2). */
const asSendRefusal = (error: unknown): unknown =>
  error instanceof AppError && error.code === "forbidden"
    ? new AppError("forbidden", { title: "Forbidden", detail: error.message })
    : error;

/** A failed, cancelled, replaced or deleted turn has this id (turns.md §6). */
export const usedBefore = (): AppError =>
  new AppError("request_id_conflict", { detail: "This request_id was used before." });

/** Row 6: returns for a turn to replay, throws for every other existing one. */
export const refuseUnlessReplay = (
  apiRoot: string,
  chatId: string,
  turn: TurnLookup,
  fingerprint: Buffer,
): void => {
  if (!turn.fingerprint.equals(fingerprint)) {
    throw new AppError("idempotency_mismatch", {
      detail: "This request_id was used with another body.",
    });
  }
  if (turn.state === "completed" && !turn.deleted) return;
  if (turn.state !== "running" || turn.deleted) throw usedBefore();
  throw new AppError("request_id_conflict", {
    detail: "A turn with this request_id is running.",
    headers: { location: `${apiRoot}/chats/${chatId}/turns/${turn.requestId}` },
  });
};

/** Row 7. */
export const generationInProgress = (): AppError =>
  new AppError("generation_in_progress", { detail: "A response is already being generated in this chat." });

/** Row 8: counts the ready images among the named attachments. */
const limitImages = async (deps: PreflightDeps, actor: Actor, request: SendRequest): Promise<void> => {
  if (request.attachmentIds.length === 0) return;
  const named = await findNamedAttachments(deps.db, actor, request.chatId, request.attachmentIds);
  const images = named.filter((one) => one.kind === "image" && one.status === "ready" && !one.deleted);
  if (images.length <= deps.maxImagesPerMessage) return;
  deps.metrics.count("media_rejected", { reason: "too_many_images" });
  throw tooManyImages(deps.maxImagesPerMessage);
};

/** Row 8. */
export const tooManyImages = (limit: number): AppError =>
  new AppError("too_many_images", { detail: `At most ${limit} images may be attached to a message.` });
