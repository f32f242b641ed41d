import type { Attachment } from "./generated/api.ts";
import { backoffMs, type CallOptions, type Http, pause } from "./http.ts";
import { chatPath } from "./paths.ts";
import { type UploadOptions, uploadFile } from "./upload.ts";

export interface Attachments {
  /**
   * Uploads a file; resolves when the server has processed it, normally with status `ready`. Never repeated by
   * itself: each upload makes a new attachment. In Node a file on disk is `await fs.openAsBlob(path)`.
   */
  upload(chatId: string, file: Blob, options?: UploadOptions): Promise<Attachment>;
  get(chatId: string, attachmentId: string, options?: CallOptions): Promise<Attachment>;
  /** Asks until it is `ready` or `failed`; the signal is the only limit. */
  settled(chatId: string, attachmentId: string, options?: CallOptions): Promise<Attachment>;
  /** Deletes one that no message refers to. */
  remove(chatId: string, attachmentId: string, options?: CallOptions): Promise<void>;
}

export const createAttachments = (http: Http): Attachments => {
  const path = (chatId: string, attachmentId = ""): string =>
    `${chatPath(chatId)}/attachments${attachmentId && `/${encodeURIComponent(attachmentId)}`}`;
  const get: Attachments["get"] = (chatId, attachmentId, { signal } = {}) =>
    http.json({ path: path(chatId, attachmentId), signal });
  return {
    upload: (chatId, file, options = {}) => uploadFile(http, path(chatId), file, options),
    get,
    settled: async (chatId, attachmentId, options = {}) => {
      for (let attempt = 0; ; attempt += 1) {
        const attachment = await get(chatId, attachmentId, options);
        if (attachment.status === "ready" || attachment.status === "failed") return attachment;
        await pause(backoffMs(attempt), options.signal);
      }
    },
    remove: (chatId, attachmentId, { signal } = {}) =>
      http.done({ method: "DELETE", path: path(chatId, attachmentId), signal }),
  };
};
