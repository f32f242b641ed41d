import type { IncomingMessage } from "node:http";
import type { Actor } from "../auth/actor.ts";
import { AppError, type ErrorCode } from "../errors.ts";
import { type Admission, type AdmitDeps, admitUpload, invalid, refuseUseless, typeWithin } from "./admit.ts";
import type { Attachment } from "./attachment.ts";
import { openBody } from "./body.ts";
import { cleanFilename } from "./filename.ts";
import { boundaryOf, type FilePart, openForm, refusedForm, tooLarge } from "./form.ts";
import { bodyLimit, framingBytes, sizeLimit } from "./limits.ts";
import { declaredType, type FileType } from "./mime.ts";
import type { Permits } from "./permits.ts";
import { type ReserveDeps, reserveAttachment } from "./reserve.ts";
import { sniffedType } from "./sniff.ts";
import { type StoreFileDeps, storeFile } from "./store-file.ts";

export interface UploadDeps extends AdmitDeps, ReserveDeps, StoreFileDeps {
  readonly permits: Permits;
  readonly allowCsv: boolean;
}

/** A request to upload into a chat the caller may upload to. */
export interface UploadRequest {
  readonly chatId: string;
  /** The selected model of the chat. */
  readonly model: string;
  readonly raw: IncomingMessage;
  readonly contentType: string | undefined;
  /** Sent to the provider as `X-Request-ID`. */
  readonly correlationId: string;
  /** Fires when the client has left or the process stops; its reason is thrown. */
  readonly signal: AbortSignal;
  /** Called when there is a row for the file: from then on the provider's time limit bounds the upload. */
  readonly begun: () => void;
}

/** Takes a file in, by the rules of attachments.md §3 in their order; throws their refusals. */
export const uploadAttachment = async (
  deps: UploadDeps,
  actor: Actor,
  request: UploadRequest,
): Promise<Attachment> => {
  const admission = await admitUpload(deps, actor, request.model);
  const boundary = boundaryOf(request.contentType);
  const form = openForm(request.raw, {
    boundary,
    bodyLimit: bodyLimit(deps.limits),
    signal: request.signal,
  });
  try {
    const part = await form.file;
    const { contentType } = part;
    if (contentType === null) throw refusedForm("Missing Content-Type", "The part has no Content-Type.");
    const filename = cleanFilename(part.filename);
    const { mime, type } = declaredType(contentType, filename, deps);
    const kind = type?.kind ?? (mime.startsWith("image/") ? "image" : "document");
    return await counted(deps, kind, () => {
      if (type === null) throw unsupported(mime);
      return receive(deps, actor, request, admission, { part, filename, type });
    });
  } finally {
    form.discard();
  }
};

interface Received {
  readonly part: FilePart;
  readonly filename: string;
  readonly type: FileType;
}

/** Rules 6–11. */
const receive = async (
  deps: UploadDeps,
  actor: Actor,
  { raw, chatId, correlationId, signal, begun }: UploadRequest,
  admission: Admission,
  { part, filename, type: declaredType }: Received,
): Promise<Attachment> => {
  const { storage } = admission;
  const declared = typeWithin(declaredType, admission);
  const limit = sizeLimit(deps.limits, declared.kind, admission.maxFileSizeMb);
  const sizeHint = Number(raw.headers["content-length"] ?? 0);
  if (limit === 0 || sizeHint - framingBytes > limit) throw tooLarge(limit);
  const release = deps.permits.take(`${actor.tenantId} ${actor.userId}`);
  if (release === null) {
    throw new AppError("upload_concurrency_limit", { detail: "Too many uploads are under way." });
  }
  try {
    refuseUseless(deps, declared, admission);
    const keep = declared.kind === "image" ? deps.thumbnails.max_decode_bytes : 0;
    const body = await openBody(part, { limit, keep });
    if (body.head.length === 0) throw invalid("The file is empty.");
    const sniffed = sniffedType(declared, body.head);
    if (sniffed === null) throw unsupported(declared.mime);
    const file = { chatId, filename, type: sniffed, sizeHint, storage };
    const row = await reserveAttachment(deps, actor, file);
    begun();
    return await storeFile(deps, { actor, row, type: sniffed, body, storage, correlationId, signal });
  } finally {
    release();
  }
};

const maxShownType = 100;

const unsupported = (mime: string): AppError =>
  new AppError("unsupported_file_type", {
    detail: `Files of the type ${mime.slice(0, maxShownType)} are not accepted, or this is none.`,
  });

const results: Partial<Record<ErrorCode, string>> = {
  file_too_large: "file_too_large",
  unsupported_file_type: "unsupported_type",
  document_limit_exceeded: "storage_limit_exceeded",
  storage_limit_exceeded: "storage_limit_exceeded",
  upload_concurrency_limit: "concurrency_limit",
  provider_mismatch: "provider_error",
  provider_rejected: "provider_error",
  provider_unavailable: "provider_error",
  response_parse_error: "provider_error",
  configuration_error: "provider_error",
  vector_store_race: "provider_error",
  vector_store_timeout: "provider_error",
};

const reasons: Partial<Record<ErrorCode, string>> = {
  document_limit_exceeded: "max_documents",
  file_too_large: "max_size",
  storage_limit_exceeded: "max_storage",
  unsupported_file_type: "type",
};

/** Exactly one `attachment_upload` per request that got past authorization and the form (ops.md §5). */
const counted = async (
  { metrics }: UploadDeps,
  kind: FileType["kind"],
  work: () => Promise<Attachment>,
): Promise<Attachment> => {
  try {
    const attachment = await work();
    metrics.count("attachment_upload", { kind, result: "ok" });
    metrics.observe("attachment_upload_bytes", { kind }, Number(attachment.sizeBytes));
    return attachment;
  } catch (error) {
    const code = error instanceof AppError ? error.code : undefined;
    const result = code === undefined ? undefined : results[code];
    const reason = code === undefined ? undefined : reasons[code];
    metrics.count("attachment_upload", { kind, result: result ?? "other" });
    if (reason !== undefined) metrics.count("upload_rejected", { reason });
    throw error;
  }
};
