import type { TenantId } from "../auth/actor.ts";

/** Who a storage call is made for, and how long it may go on. */
export interface StorageContext {
  /**
   * Chooses the upstream with every call: the tenant's own where the provider has an override for it, else
   * the root one. Null: nobody's in particular, the root one.
   */
  readonly tenantId: TenantId | null;
  /** Sent as `X-Request-ID` (providers.md §8.5). */
  readonly correlationId: string;
  readonly signal?: AbortSignal;
}

/** A file on its way to the provider. */
export interface StorageUpload {
  /** `{chat_id}_{attachment_id}.{ext}`; never the user's file name (attachments.md §4). */
  readonly name: string;
  readonly contentType: string;
  /** Read once, with back-pressure; an error it throws aborts the upload and is thrown on unchanged. */
  readonly stream: AsyncIterable<Uint8Array>;
}

export interface StoredObject {
  readonly id: string;
  /** Null where the provider does not tell. */
  readonly name: string | null;
  readonly createdAt: Date;
}

/**
 * Files at a provider (attachments.md §13). Every method throws `StorageError`, also when the signal fires,
 * which closes the socket; nothing here touches the database. Deletions and status reads are tried up to three times
 * (providers.md §8.3), nothing else is repeated. Deleting what is not there succeeds.
 */
export interface FileStorage {
  /** `bytes` is what was sent, counted while streaming. */
  upload(context: StorageContext, file: StorageUpload): Promise<{ providerFileId: string; bytes: number }>;
  delete(context: StorageContext, providerFileId: string): Promise<void>;
  /** All files, page by page, oldest or newest first as the provider likes. */
  list(context: StorageContext): AsyncIterable<StoredObject>;
}

/** What a provider says of a file in a store; `unknown` is any other answer, 404 and 405 included. */
export type IndexStatus = "completed" | "in_progress" | "failed" | "cancelled" | "unknown";

/** Vector stores at a provider; errors and deletions as `FileStorage`. */
export interface VectorStores {
  create(context: StorageContext): Promise<string>;
  addFile(
    context: StorageContext,
    storeId: string,
    providerFileId: string,
    attributes: Readonly<Record<string, string>>,
  ): Promise<IndexStatus>;
  fileStatus(context: StorageContext, storeId: string, providerFileId: string): Promise<IndexStatus>;
  removeFile(context: StorageContext, storeId: string, providerFileId: string): Promise<void>;
  delete(context: StorageContext, storeId: string): Promise<void>;
  list(context: StorageContext): AsyncIterable<StoredObject>;
}

/** The storage behind one configured provider. */
export interface ProviderStorage {
  readonly providerId: string;
  /** Label stored on rows (`providers.*.storage_backend`). */
  readonly storageBackend: string;
  /** Our own database: no provider can read its files, we search them ourselves (docs/retrieval.md). */
  readonly local: boolean;
  readonly files: FileStorage;
  readonly stores: VectorStores;
}

/** One account at a provider: the root upstream, or that of a tenant with an override. */
export interface StorageAccount {
  readonly storage: ProviderStorage;
  /** What reaches it in a `StorageContext`. */
  readonly tenantId: TenantId | null;
}

export interface StorageRegistry {
  /**
   * The storage files of that model provider go to: its own, or that of its `rag_provider`. Null when
   * the provider is not configured or has none.
   */
  forModelProvider(providerId: string): ProviderStorage | null;
  /** The storage a row names by its `provider_id`; null when it is not configured any more. */
  byProviderId(providerId: string): ProviderStorage | null;
  /** Every place files may lie. Two of them may be the same account, if the configuration says so twice. */
  accounts(): readonly StorageAccount[];
}

/** Codes of providers.md §9. */
export type StorageErrorCode =
  | "provider_rejected"
  | "provider_unavailable"
  | "response_parse_error"
  | "configuration_error";

/**
 * What a call failed of: an answer with an error status, no answer in time, no connection, our own caps or
 * the open breaker (nothing was sent), the source of an upload that brought nothing in time, the caller's
 * signal, an answer nobody can read, or our configuration.
 */
export type StorageFailureReason =
  | "status"
  | "timeout"
  | "transport"
  | "limited"
  | "refused"
  | "stalled"
  | "aborted"
  | "unreadable"
  | "configuration";

/** The only error storage adapters throw of their own. `message` is fixed; `detail` is for logs, sanitised. */
export class StorageError extends Error {
  override name = "StorageError";
  readonly code: StorageErrorCode;
  readonly detail: string;
  readonly httpStatus: number | undefined;
  readonly reason: StorageFailureReason;
  /** Whether another attempt may succeed (providers.md §9.1): all but the 4xx that say no for good. */
  readonly retryable: boolean;

  constructor(
    code: StorageErrorCode,
    more: {
      detail: string;
      httpStatus?: number;
      retryable: boolean;
      /** Default: `status` with an `httpStatus`, else `transport`. */
      reason?: StorageFailureReason;
      cause?: unknown;
    },
  ) {
    super(code, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.detail = more.detail;
    this.httpStatus = more.httpStatus;
    this.retryable = more.retryable;
    this.reason = more.reason ?? (more.httpStatus === undefined ? "transport" : "status");
  }
}
