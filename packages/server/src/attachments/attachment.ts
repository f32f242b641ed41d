import { z } from "zod";
import type { Timestamp } from "../db/pool.ts";
import { AppError } from "../errors.ts";
import { int64, timestampOut, uuidOut } from "../http/validate.ts";
import type { AttachmentKind } from "./mime.ts";

export type AttachmentStatus = "pending" | "uploaded" | "ready" | "failed";

/** Why an upload failed, as clients see it (api.md §3.2). */
export type UploadErrorCode =
  | "upload_failed"
  | "upload_interrupted"
  | "file_too_large"
  | "storage_limit_exceeded"
  | "vector_store_failed"
  | "indexing_failed";

/** A preview of an image, as stored. */
export interface Thumbnail {
  readonly bytes: Buffer;
  readonly width: number;
  readonly height: number;
}

/** A file of a chat, without anything of the provider's (attachments.md §1). */
export interface Attachment {
  readonly id: string;
  readonly filename: string;
  readonly contentType: string;
  readonly sizeBytes: bigint;
  readonly status: AttachmentStatus;
  readonly kind: AttachmentKind;
  readonly errorCode: UploadErrorCode | null;
  readonly docSummary: string | null;
  readonly summaryUpdatedAt: Timestamp | null;
  readonly thumbnail: Buffer | null;
  readonly thumbnailWidth: number | null;
  readonly thumbnailHeight: number | null;
  readonly createdAt: Timestamp;
}

export const thumbnailSchema = z.object({
  content_type: z.literal("image/webp"),
  width: z.int(),
  height: z.int(),
  data_base64: z.string(),
});

export const attachmentSchema = z
  .object({
    id: uuidOut(),
    filename: z.string(),
    content_type: z.string(),
    size_bytes: int64(),
    status: z.enum(["pending", "uploaded", "ready", "failed"]),
    kind: z.enum(["document", "image"]),
    error_code: z
      .enum([
        "upload_failed",
        "upload_interrupted",
        "file_too_large",
        "storage_limit_exceeded",
        "vector_store_failed",
        "indexing_failed",
      ])
      .optional(),
    doc_summary: z.string().optional(),
    img_thumbnail: thumbnailSchema.optional(),
    summary_updated_at: timestampOut().optional(),
    created_at: timestampOut(),
  })
  .meta({ id: "Attachment" });

/** A thumbnail as clients see it, where there is one; spread into the view of its attachment. */
export const thumbnailView = (row: {
  readonly thumbnail: Buffer | null;
  readonly thumbnailWidth: number | null;
  readonly thumbnailHeight: number | null;
}): { img_thumbnail?: z.infer<typeof thumbnailSchema> } =>
  row.thumbnail === null || row.thumbnailWidth === null || row.thumbnailHeight === null
    ? {}
    : {
        img_thumbnail: {
          content_type: "image/webp",
          width: row.thumbnailWidth,
          height: row.thumbnailHeight,
          data_base64: row.thumbnail.toString("base64"),
        },
      };

/** Attachment as clients see it (api.md §3.2). */
export const attachmentView = (row: Attachment): z.infer<typeof attachmentSchema> => ({
  id: row.id,
  filename: row.filename,
  content_type: row.contentType,
  size_bytes: row.sizeBytes,
  status: row.status,
  kind: row.kind,
  ...(row.errorCode === null ? {} : { error_code: row.errorCode }),
  ...(row.docSummary === null ? {} : { doc_summary: row.docSummary }),
  ...thumbnailView(row),
  ...(row.summaryUpdatedAt === null ? {} : { summary_updated_at: row.summaryUpdatedAt }),
  created_at: row.createdAt,
});

/** One 404 for what is missing, deleted, in another chat, or was deleted while it was uploaded. */
export const attachmentNotFound = (): AppError =>
  new AppError("attachment_not_found", { detail: "No such attachment." });
