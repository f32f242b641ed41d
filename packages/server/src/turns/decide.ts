import type { ChatFiles } from "../attachments/chat-files-store.ts";
import type { NamedAttachment } from "../attachments/store.ts";
import type { TenantId } from "../auth/actor.ts";
import { assembleContext } from "../context/assemble.ts";
import type { Guards } from "../context/guards.ts";
import { AppError, type QuotaScope } from "../errors.ts";
import { invariant } from "../lib/assert.ts";
import type { RecentMessage } from "../messages/store.ts";
import { offeredTools } from "../policy/offered.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import type { ProviderTarget } from "../providers/contract.ts";
import { type Candidate, type Decision, runCascade } from "../quota/cascade.ts";
import { maxTokens } from "../quota/credits.ts";
import {
  type EstimationBudgets,
  estimateInputTokens,
  type OfferedTools,
  textTokens,
} from "../quota/estimate.ts";
import type { LockedQuota, ReserveRows } from "../quota/store.ts";
import type { ThreadSummary } from "../summaries/summary.ts";
import type { ToolLimits } from "./answer.ts";
import { type Plan, tooManyImages } from "./preflight.ts";
import { citableFiles, type ModelStorage, type ReadableFiles, readableFiles } from "./readable-files.ts";
import { passageSearch, providerRequest } from "./request.ts";
import type { QuotaDecision, RunningTurn } from "./running.ts";
import type { ReserveColumns } from "./turn.ts";

export interface DecideDeps {
  /** The upstream of a provider for a tenant; memory only, null when it is not configured. */
  readonly resolveTarget: (providerId: string, tenantId: TenantId) => ProviderTarget | null;
  /** Where the files of a provider's models lie; null when it has no storage. */
  readonly storageOf: (providerId: string) => ModelStorage | null;
  /** `streaming.max_output_tokens`. */
  readonly maxOutputTokens: number;
  /** The deployment's budgets: they size the reserve (quota.md §3). */
  readonly estimationBudgets: EstimationBudgets;
  /** Daily admission limits of quota.md §8. */
  readonly dailyQuotas: {
    readonly webSearch: number;
    readonly codeInterpreter: number;
    readonly imageInputs: number;
  };
  readonly toolLimits: ToolLimits;
  readonly maxImagesPerMessage: number;
  readonly guards: Guards;
  /** `context.recent_messages_limit`. */
  readonly recentMessagesLimit: number;
}

/** What transaction 1 decides on, read under its locks. */
export interface Locked {
  readonly attachments: readonly NamedAttachment[];
  /** Everything the chat has uploaded, named or not. */
  readonly files: ChatFiles;
  readonly quota: LockedQuota;
  /** Newest first, one more than the limit, so that truncation is noticed. */
  readonly recent: readonly RecentMessage[];
  /** Null when the chat has none. */
  readonly summary: ThreadSummary | null;
  readonly priorContextTokens: bigint;
}

/** A turn that may run: what is written, and what running it needs. */
export interface Decided {
  readonly reserve: ReserveColumns;
  readonly reserveRows: ReserveRows;
  readonly running: Pick<
    RunningTurn,
    | "model"
    | "decision"
    | "target"
    | "request"
    | "context"
    | "toolLimits"
    | "attachments"
    | "files"
    | "search"
  >;
  /** For the metrics after the commit. */
  readonly images: number;
  readonly dropped: Readonly<Record<"thread_summary" | "recent_messages" | "doc_summary", number>>;
}

/**
 * Rows 11–19 of turns.md §4.2, strictly in that order, on what was read under the locks. Pure but for
 * its refusals: throws `AppError` with the row's code, `CreditOverflowError` for impossible amounts.
 */
export const decideTurn = (deps: DecideDeps, plan: Plan, locked: Locked, turnId: string): Decided => {
  const images = readyImages(plan, locked.attachments);
  // An attachment may have become a ready image since the reads before the transaction.
  if (images.length > deps.maxImagesPerMessage) throw tooManyImages(deps.maxImagesPerMessage);
  const decision = cascade(deps, plan, locked, images.length);
  if (decision.kind === "reject") throw quotaExceeded("tokens", "The credits of this period are used up.");
  const { candidate } = decision;
  const { model } = candidate;
  refuseSpentDay(deps, locked.quota, candidate.offered, images.length);
  const textSize = textTokens(Buffer.byteLength(plan.request.content), model.estimationBudgets);
  if (textSize > BigInt(model.maxInputTokens)) throw inputTooLong();
  const target = targetOf(deps, plan, model);
  const storage = deps.storageOf(model.providerId);
  refuseImages(plan, model, storage, images);
  refuseAttachments(plan, locked.attachments);
  const readable = readableFiles(locked.files, storage);
  const assembled = assemble(deps, plan, locked, candidate, images, readable);
  return {
    reserve: reserveColumns(deps, plan, candidate),
    reserveRows: {
      periods: locked.quota.periods,
      tier: model.tier,
      reservedCreditsMicro: candidate.reservedCreditsMicro,
      images: images.length,
    },
    running: {
      model,
      decision: quotaDecision(decision),
      target,
      request: providerRequest(plan, candidate, assembled.request, turnId),
      context: {
        estimatedTokens: assembled.estimatedContextTokens,
        messagesTruncated: assembled.messagesTruncated,
        summaryTokens: assembled.summaryApplied?.tokenEstimate ?? null,
        maxOutputTokens: candidate.maxOutputTokensApplied,
      },
      toolLimits: deps.toolLimits,
      attachments: locked.attachments.map(({ id, kind }) => ({ id, kind })),
      files: citableFiles(locked.files),
      search: passageSearch(plan, model, assembled.excerptTokens),
    },
    images: images.length,
    dropped: assembled.dropped,
  };
};

const quotaExceeded = (quotaScope: QuotaScope, detail: string): AppError =>
  new AppError("quota_exceeded", { detail, quotaScope });

const inputTooLong = (): AppError =>
  new AppError("input_too_long", { detail: "content is longer than the model can read." });

/** The images this message sends, in the order named. */
const readyImages = (plan: Plan, named: readonly NamedAttachment[]): NamedAttachment[] => {
  const byId = new Map(named.map((one) => [one.id, one]));
  return [...new Set(plan.request.attachmentIds)].flatMap((id) => {
    const one = byId.get(id);
    return one?.kind === "image" && one.status === "ready" && !one.deleted ? [one] : [];
  });
};

const cascade = (deps: DecideDeps, plan: Plan, locked: Locked, images: number): Decision => {
  const { snapshot, limits } = plan.policy;
  const utf8Bytes = Buffer.byteLength(plan.request.content);
  return runCascade({
    snapshot,
    limits,
    selectedModel: plan.selectedModel,
    balances: locked.quota.balances,
    maxOutputTokens: deps.maxOutputTokens,
    measure: (model) => {
      const readable = readableFiles(locked.files, deps.storageOf(model.providerId));
      const offered = offeredTools({
        model,
        killSwitches: snapshot.killSwitches,
        webSearchRequested: plan.request.webSearch,
        files: {
          searchable: readable.vectorStoreId !== null || readable.searchedHere,
          codeFiles: readable.codeFileIds.length > 0,
        },
      });
      const { priorContextTokens } = locked;
      const estimatedInputTokens = estimateInputTokens(
        { utf8Bytes, images, offered, priorContextTokens },
        deps.estimationBudgets,
      );
      // quota.md §1.3: beyond the arithmetic's bounds it is the input that is too long.
      if (estimatedInputTokens > maxTokens) throw inputTooLong();
      return { offered, estimatedInputTokens };
    },
  });
};

/** Rows 12–14: what today's daily allowances refuse. */
const refuseSpentDay = (
  deps: DecideDeps,
  quota: LockedQuota,
  offered: OfferedTools,
  images: number,
): void => {
  const { dailyQuotas } = deps;
  const { today } = quota;
  if (offered.webSearch && today.webSearchCalls >= dailyQuotas.webSearch) {
    throw quotaExceeded("web_search", "Today's web searches are used up.");
  }
  if (offered.codeInterpreter && today.codeInterpreterCalls >= dailyQuotas.codeInterpreter) {
    throw quotaExceeded("code_interpreter", "Today's code interpreter calls are used up.");
  }
  if (images > 0 && today.imageInputs + images > dailyQuotas.imageInputs) {
    throw quotaExceeded("image_inputs", "Today's images are used up.");
  }
};

/** Row 20 where the catalog names a provider nobody configured; start-up refuses that for static catalogs. */
const targetOf = (deps: DecideDeps, plan: Plan, model: ModelEntry): ProviderTarget => {
  const target = deps.resolveTarget(model.providerId, plan.actor.tenantId);
  invariant(target !== null, "the provider of an enabled model is configured");
  return target;
};

/** Rows 16–17: the effective model must be able to read every image; none is dropped silently. */
const refuseImages = (
  plan: Plan,
  model: ModelEntry,
  storage: ModelStorage | null,
  images: readonly NamedAttachment[],
): void => {
  if (images.length === 0) return;
  if (plan.policy.snapshot.killSwitches.disableImages) {
    throw new AppError("images_disabled", { detail: "Images are switched off." });
  }
  const sees = model.multimodalCapabilities.includes("VISION_INPUT");
  // The provider would not know the names of images that lie in our own database.
  const reads = storage !== null && !storage.local;
  if (sees && reads && images.every((image) => image.storageBackend === storage.backend)) return;
  throw new AppError("unsupported_media", { detail: "The model that would answer cannot read the images." });
};

/** Row 18. One text for every reason: what another user has must not be told from what nobody has. */
const refuseAttachments = (plan: Plan, named: readonly NamedAttachment[]): void => {
  const { attachmentIds } = plan.request;
  const usable = named.filter(
    (one) => one.status === "ready" && !one.deleted && one.uploadedByUserId === plan.actor.userId,
  );
  // Found rows are distinct, so a repeated id shows as a shorter list.
  if (usable.length === attachmentIds.length) return;
  throw new AppError("invalid_attachment", {
    detail: "attachment_ids names an attachment twice, or one that cannot be used in this chat.",
  });
};

/** Row 19. */
const assemble = (
  deps: DecideDeps,
  plan: Plan,
  locked: Locked,
  candidate: Candidate,
  images: readonly NamedAttachment[],
  readable: ReadableFiles,
): Extract<ReturnType<typeof assembleContext>, { kind: "fits" }> => {
  const assembled = assembleContext({
    model: candidate.model,
    maxOutputTokensApplied: candidate.maxOutputTokensApplied,
    offered: candidate.offered,
    guards: deps.guards,
    summary: locked.summary,
    recent: locked.recent,
    recentLimit: deps.recentMessagesLimit,
    userText: plan.request.content,
    imageFileIds: images.flatMap((image) => image.providerFileId ?? []),
    vectorStoreId: readable.vectorStoreId,
    searchedOnly: readable.searchedOnly,
    searchedHere: readable.searchedHere,
    codeFileIds: readable.codeFileIds,
    docSummaries: locked.files.documents.flatMap(({ filename, summary }) =>
      summary === null ? [] : [{ filename, summary }],
    ),
  });
  if (assembled.kind === "fits") return assembled;
  throw new AppError("context_budget_exceeded", {
    detail: "The message does not fit into the model's context.",
    context: { required_tokens: assembled.requiredTokens, available_tokens: assembled.availableTokens },
  });
};

const reserveColumns = (deps: DecideDeps, plan: Plan, candidate: Candidate): ReserveColumns => {
  const { model, maxOutputTokensApplied } = candidate;
  return {
    reserveTokens: candidate.reserveTokens,
    reservedCreditsMicro: candidate.reservedCreditsMicro,
    policyVersionApplied: plan.policy.version,
    maxOutputTokensApplied,
    // Never above the cap, so that an estimated charge stays within the reserve (quota.md §4).
    minimalGenerationFloorApplied: Math.min(
      deps.estimationBudgets.minimalGenerationFloor,
      maxOutputTokensApplied,
    ),
    effectiveModel: model.id,
    effectiveTier: model.tier,
    inputMultiplierMicro: model.inputMultiplierMicro,
    outputMultiplierMicro: model.outputMultiplierMicro,
  };
};

const quotaDecision = (decision: Exclude<Decision, { kind: "reject" }>): QuotaDecision =>
  decision.kind === "allow"
    ? { kind: "allow" }
    : { kind: "downgrade", from: decision.from, fromTier: decision.fromTier, reason: decision.reason };
