import { invariant } from "../lib/assert.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import type { ProviderMessage, ProviderPart, ProviderRequest, ProviderTool } from "../providers/contract.ts";
import type { OfferedTools } from "../quota/estimate.ts";
import { sizedTokens } from "./estimate.ts";
import { type Guards, summaryPreamble } from "./guards.ts";
import { type ContextMessage, type DialogueMessage, type Fit, fitContext } from "./truncate.ts";

/** Everything a request is made of, read beforehand (context.md §1). */
export interface ContextInput {
  /** The effective model, at the applied policy version. */
  readonly model: ModelEntry;
  readonly maxOutputTokensApplied: number;
  readonly offered: OfferedTools;
  readonly guards: Guards;
  readonly summary: { readonly text: string; readonly tokenEstimate: number } | null;
  /** Eligible messages, newest first; one more than `recentLimit`, so that a longer history is noticed. */
  readonly recent: readonly ContextMessage[];
  readonly recentLimit: number;
  /** As received. */
  readonly userText: string;
  /** Provider file ids, in the order of `attachment_ids`. */
  readonly imageFileIds: readonly string[];
  /** The store the provider searches; null where nothing is searched, or by us. */
  readonly vectorStoreId: string | null;
  /** The attachments the provider may search in it; null for all. */
  readonly searchedOnly: readonly string[] | null;
  /** File search is ours: room for the passages it will find (docs/retrieval.md). */
  readonly searchedHere: boolean;
  /** Provider file ids; not empty when the code interpreter is offered. */
  readonly codeFileIds: readonly string[];
  /** Newest document first. */
  readonly docSummaries: readonly { readonly filename: string; readonly summary: string }[];
}

/** Label values of the metric `context_truncation`. */
export type DroppableItem = "thread_summary" | "recent_messages" | "doc_summary";

export type AssembledContext =
  | {
      readonly kind: "fits";
      readonly request: Pick<ProviderRequest, "messages" | "systemInstructions" | "tools">;
      readonly estimatedContextTokens: number;
      /** A message of the dialogue is not sent; with the estimate, the trigger of the summary (§6.2). */
      readonly messagesTruncated: boolean;
      /** Room for excerpts, part of the estimate; 0 unless file search is ours. */
      readonly excerptTokens: number;
      /** Null when there is none or it was dropped. */
      readonly summaryApplied: { readonly tokenEstimate: number } | null;
      /** Items left out. */
      readonly dropped: Readonly<Record<DroppableItem, number>>;
    }
  | Extract<Fit, { kind: "too_big" }>;

/**
 * What the model is given (context.md §2–§5): pure, the same input makes the same request, byte for
 * byte. `too_big` is `context_budget_exceeded`: instructions and current message are never cut.
 */
export const assembleContext = (input: ContextInput): AssembledContext => {
  const { model, offered, recentLimit } = input;
  const instructions = instructionsOf(input);
  const summary = input.summary === null ? null : `${summaryPreamble}\n\n${input.summary.text}`;
  const recent = input.recent.slice(0, recentLimit).filter(isDialogue);
  const outside = input.recent.slice(recentLimit).filter(isDialogue).length;
  const docLines = input.docSummaries.map(docLine);
  const fit = fitContext(
    {
      instructions,
      userText: input.userText,
      images: input.imageFileIds.length,
      excerptTokens: excerptWish(input),
      summary,
      recent,
      olderExist: outside > 0,
      docLines,
    },
    {
      contextWindow: model.contextWindow,
      maxInputTokens: model.maxInputTokens,
      maxOutputTokensApplied: input.maxOutputTokensApplied,
      offered,
      budgets: model.estimationBudgets,
    },
  );
  if (fit.kind === "too_big") return fit;
  const messagesDropped = recent.length - fit.recent.length + outside;
  const systemInstructions = paragraphs([instructions, fit.docLines.join("\n")]);
  return {
    kind: "fits",
    request: {
      messages: [
        ...(summary !== null && fit.keepsSummary ? [textMessage("user", summary)] : []),
        ...fit.recent.map((message) => textMessage(message.role, message.content)).reverse(),
        currentMessage(input),
      ],
      ...(systemInstructions === "" ? {} : { systemInstructions }),
      tools: toolsOf(input),
    },
    estimatedContextTokens: fit.estimatedContextTokens,
    messagesTruncated: messagesDropped > 0,
    excerptTokens: fit.excerptTokens,
    summaryApplied:
      input.summary !== null && fit.keepsSummary ? { tokenEstimate: input.summary.tokenEstimate } : null,
    dropped: {
      thread_summary: summary !== null && !fit.keepsSummary ? 1 : 0,
      recent_messages: messagesDropped,
      doc_summary: docLines.length - fit.docLines.length,
    },
  };
};

/** Bytes of a passage with its frame, and of what stands around all of them. */
const excerptBytes = 1_500;
const framingBytes = 700;

/** Tokens for as many passages as the model may be given. */
const excerptWish = ({ model, offered, searchedHere }: ContextInput): number =>
  searchedHere && offered.fileSearch
    ? sizedTokens(framingBytes + model.maxNumResults * excerptBytes, model.estimationBudgets)
    : 0;

/** Items 1 and 2 of context.md §2; the guard of file search speaks of a tool, which only a provider has. */
const instructionsOf = ({ model, offered, guards, searchedHere }: ContextInput): string => {
  const anyTool = offered.fileSearch || offered.webSearch || offered.codeInterpreter;
  return paragraphs([
    model.systemPrompt,
    offered.webSearch ? guards.webSearch : "",
    offered.fileSearch && !searchedHere ? guards.fileSearch : "",
    anyTool ? guards.untrustedContent : "",
  ]);
};

const paragraphs = (parts: readonly string[]): string =>
  parts.filter((part) => part.trim() !== "").join("\n\n");

const isDialogue = (message: ContextMessage): message is DialogueMessage => message.role !== "system";

/** Item 3: one line whatever the name and the summary contain (context.md §7). */
const docLine = ({ filename, summary }: ContextInput["docSummaries"][number]): string =>
  `Uploaded document "${oneLine(filename)}": ${oneLine(summary)}`;

const oneLine = (text: string): string => text.trim().replaceAll(/\s+/g, " ");

const textMessage = (role: DialogueMessage["role"], text: string): ProviderMessage => ({
  role,
  content: [{ text }],
});

const currentMessage = ({ userText, imageFileIds }: ContextInput): ProviderMessage => ({
  role: "user",
  content: [{ text: userText }, ...imageFileIds.map((imageFileId): ProviderPart => ({ imageFileId }))],
});

const toolsOf = (input: ContextInput): ProviderTool[] => {
  const { model, offered, vectorStoreId, searchedOnly, codeFileIds } = input;
  const tools: ProviderTool[] = [];
  if (offered.fileSearch && !input.searchedHere) {
    invariant(vectorStoreId !== null, "file search is offered only with a vector store");
    tools.push({
      kind: "file_search",
      vectorStoreIds: [vectorStoreId],
      maxNumResults: model.maxNumResults,
      ...(searchedOnly === null ? {} : { onlyAttachments: searchedOnly }),
    });
  }
  if (offered.webSearch) tools.push({ kind: "web_search", searchContextSize: model.webSearchContextSize });
  if (offered.codeInterpreter) {
    invariant(codeFileIds.length > 0, "the code interpreter is offered only with files");
    tools.push({ kind: "code_interpreter", fileIds: codeFileIds });
  }
  return tools;
};
