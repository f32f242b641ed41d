import type { TenantId, UserId } from "../auth/actor.ts";

/** The request model of providers.md §1.1: what the domain asks for, in no provider's format. */
export interface ProviderRequest {
  /** `provider_model_id` of the effective model. */
  readonly model: string;
  readonly messages: readonly ProviderMessage[];
  readonly systemInstructions?: string;
  readonly maxOutputTokens?: number;
  readonly maxToolCalls?: number;
  readonly tools: readonly ProviderTool[];
  readonly userIdentity: { readonly tenantId: TenantId; readonly userId: UserId };
  readonly metadata: {
    readonly tenantId: TenantId;
    readonly userId: UserId;
    readonly chatId: string;
    readonly requestType: "chat" | "summary" | "doc_summary";
    /** Tool names in the order `file_search`, `web_search`, `code_interpreter`. */
    readonly features: readonly ToolName[];
  };
  readonly params: ApiParams;
  /** Sent as `X-Request-ID` (§8.5): turn id or `system_request_id`. */
  readonly correlationId: string;
  /** W3C trace context to propagate, when there is one. */
  readonly traceparent?: string;
}

export interface ProviderMessage {
  readonly role: "user" | "assistant" | "system";
  readonly content: readonly ProviderPart[];
}

export type ProviderPart =
  | { readonly text: string }
  | { readonly imageFileId: string }
  /** A document the provider stores, to be read whole. */
  | { readonly fileId: string };

export type ToolName = "file_search" | "web_search" | "code_interpreter" | "file_load";

export type ProviderTool =
  | {
      readonly kind: "file_search";
      readonly vectorStoreIds: readonly string[];
      readonly maxNumResults?: number;
      /** Only files whose attribute `attachment_id` is one of these. */
      readonly onlyAttachments?: readonly string[];
    }
  | { readonly kind: "web_search"; readonly searchContextSize: "low" | "medium" | "high" }
  | { readonly kind: "code_interpreter"; readonly fileIds: readonly string[] }
  | {
      readonly kind: "function";
      readonly name: string;
      readonly description: string;
      readonly parameters: unknown;
    };

/** `general_config.api_params` of the catalog entry (policy.md §2). */
export interface ApiParams {
  readonly temperature?: number;
  readonly top_p?: number;
  readonly frequency_penalty?: number;
  readonly presence_penalty?: number;
  readonly stop?: readonly string[];
  readonly extra_body?: unknown;
  readonly reasoning_effort?: string;
}

/** Tokens as the provider reported them; cache counters are subsets of input, reasoning of output. */
export interface ProviderUsage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadInputTokens: number;
  readonly cacheWriteInputTokens: number;
  readonly reasoningTokens: number;
}

export interface ProviderCitation {
  readonly source: "file" | "web";
  readonly title?: string;
  readonly url?: string;
  /** Provider file id: mapped to an attachment before anything leaves the process. */
  readonly providerFileId?: string;
  readonly snippet?: string;
  /** Unicode code points of the whole answer, end exclusive. */
  readonly span?: { readonly start: number; readonly end: number };
  /** Where in the file it stands, in words. */
  readonly position?: string;
}

export type IncompleteReason = "max_tokens" | "content_filter" | "other";

/** Internal events of providers.md §1.3. `skip` has no client-visible meaning but counts as progress. */
export type ProviderEvent =
  | { readonly type: "delta"; readonly kind: "text" | "reasoning"; readonly content: string }
  | {
      readonly type: "tool";
      readonly phase: "start" | "done";
      readonly name: ToolName;
      readonly details: Readonly<Record<string, unknown>>;
    }
  | { readonly type: "skip" }
  | { readonly type: "terminal"; readonly outcome: ProviderOutcome };

/** Codes of providers.md §7.1. */
export type ProviderErrorCode = "rate_limited" | "provider_timeout" | "provider_error" | "internal_error";

/** Exactly one per stream (providers.md §1.4). */
export type ProviderOutcome =
  | {
      readonly kind: "completed";
      readonly usage: ProviderUsage | null;
      readonly responseId?: string;
      readonly citations: readonly ProviderCitation[];
    }
  | {
      readonly kind: "incomplete";
      readonly reason: IncompleteReason;
      readonly usage: ProviderUsage | null;
      readonly responseId?: string;
      readonly citations: readonly ProviderCitation[];
    }
  | {
      readonly kind: "failed";
      readonly code: ProviderErrorCode;
      /** Sanitised, for clients (§7.2). */
      readonly message: string;
      /** Internal, secrets removed; for logs and `chat_turns.error_detail`. */
      readonly detail: string;
      readonly usage: ProviderUsage | null;
      readonly responseId?: string;
      /** False only when the failure provably precedes the request (turns.md §11.2). */
      readonly started: boolean;
    }
  | {
      readonly kind: "aborted";
      /** False only when the abort provably precedes the request. */
      readonly started: boolean;
    };

/**
 * A running provider call. Events arrive in batches: what one read of the socket brought. Iterate to
 * the end: the last event is always `terminal`, exactly one,
 * and iteration never throws. Stopping the iteration early, or the signal, closes the socket.
 */
export interface ProviderStream extends AsyncIterable<readonly ProviderEvent[]> {
  /** Resolves when the provider's socket is closed or returned to the pool. */
  readonly closed: Promise<void>;
}

/** A resolved upstream (providers.md §8.1): decided before the preflight transaction. */
export interface ProviderTarget {
  readonly providerId: string;
  readonly kind: string;
  readonly storageBackend: string;
  /** Origin such as `https://api.openai.com` or `http://127.0.0.1:4010`. */
  readonly origin: string;
  readonly apiPath: string;
  /** Headers that authenticate the call; null when the secret is missing. */
  readonly authHeaders: Readonly<Record<string, string>> | null;
  readonly exposeReasoning: boolean;
}

export interface ProviderCompletion {
  readonly content: string;
  readonly usage: ProviderUsage | null;
  readonly responseId?: string;
  readonly citations: readonly ProviderCitation[];
}

/** Port of providers.md §1.2. Adapters know no tenant rule, quota or database. */
export interface LlmProvider {
  stream(request: ProviderRequest, target: ProviderTarget, signal: AbortSignal): ProviderStream;
  /** Throws `ProviderError`. */
  complete(
    request: ProviderRequest,
    target: ProviderTarget,
    signal: AbortSignal,
  ): Promise<ProviderCompletion>;
}

export interface ProviderRegistry {
  /** The upstream of `providerId` for a tenant; null when no such provider is configured. */
  resolve(providerId: string, tenantId: TenantId): ProviderTarget | null;
  adapter(target: ProviderTarget): LlmProvider;
  close(): Promise<void>;
}

/** The only error adapters throw. `message` is sanitised; `detail` is internal. */
export class ProviderError extends Error {
  override name = "ProviderError";
  readonly code: ProviderErrorCode;
  readonly detail: string;
  readonly started: boolean;
  /** Kept back by our own caps or the open breaker: it says nothing of the provider. */
  readonly withheld: boolean;
  readonly httpStatus: number | undefined;

  constructor(
    code: ProviderErrorCode,
    message: string,
    more: {
      detail?: string;
      started?: boolean;
      withheld?: boolean;
      httpStatus?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.detail = more.detail ?? message;
    this.started = more.started ?? true;
    this.withheld = more.withheld ?? false;
    this.httpStatus = more.httpStatus;
  }
}
