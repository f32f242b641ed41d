import type { AttachmentKind } from "./mime.ts";

/** Knobs of `rag` that bound an upload (attachments.md §7). */
export interface UploadLimits {
  readonly uploaded_file_max_size_kb: number;
  readonly uploaded_image_max_size_kb: number;
  readonly max_documents_per_chat: number;
  readonly max_total_upload_mb_per_chat: number;
}

const kib = 1_024;
const mib = 1_048_576;

/** Form around the file: boundaries, headers, other small parts (attachments.md §3). */
export const framingBytes = 65_536;

const configuredLimit = (limits: UploadLimits, kind: AttachmentKind): number =>
  (kind === "image" ? limits.uploaded_image_max_size_kb : limits.uploaded_file_max_size_kb) * kib;

/** The largest file of a kind, in bytes; a model limit of 0 refuses all (attachments.md §3.6). */
export const sizeLimit = (limits: UploadLimits, kind: AttachmentKind, modelMaxFileSizeMb: number): number =>
  Math.min(configuredLimit(limits, kind), modelMaxFileSizeMb * mib);

/** The largest request body, in bytes, whatever is in it. */
export const bodyLimit = (limits: UploadLimits): number =>
  Math.max(configuredLimit(limits, "document"), configuredLimit(limits, "image")) + framingBytes;

/** The largest sum of all files of a chat, in bytes. */
export const chatLimit = (limits: UploadLimits): bigint =>
  BigInt(limits.max_total_upload_mb_per_chat) * BigInt(mib);
