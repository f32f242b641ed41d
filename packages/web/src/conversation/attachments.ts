import type { AttachmentSummary, Client } from "@mini-chat/client";
import { problemText } from "../lib/problem.ts";
import { createStore, type Store } from "../lib/store.ts";

/** A file on its way into the next message. */
export interface DraftFile {
  readonly key: string;
  readonly name: string;
  readonly size: number;
  /** An address of the picture itself while it is only here. */
  readonly preview: string | undefined;
  readonly state:
    | { readonly at: "uploading"; readonly share: number }
    | { readonly at: "processing" }
    | { readonly at: "ready"; readonly attachment: AttachmentSummary }
    | { readonly at: "failed"; readonly reason: string };
}

export interface DraftFiles {
  readonly list: Store<readonly DraftFile[]>;
  add(files: readonly File[], chatId: Promise<string>): void;
  /** Takes a file out; one that was uploaded is deleted on the server too. */
  remove(key: string): void;
  /** Empties the list: the files belong to a message now. */
  clear(): void;
  /** Fills it again with files a refused message had. */
  restore(attachments: readonly AttachmentSummary[]): void;
}

export const createDraftFiles = (client: Client): DraftFiles => {
  const list = createStore<readonly DraftFile[]>([]);
  const uploads = new Map<string, { readonly stop: AbortController; readonly chatId: Promise<string> }>();
  let count = 0;

  const change = (key: string, state: DraftFile["state"]): void =>
    list.update((files) => files.map((file) => (file.key === key ? { ...file, state } : file)));

  const upload = async (
    key: string,
    file: File,
    chatId: Promise<string>,
    signal: AbortSignal,
  ): Promise<void> => {
    try {
      const chat = await chatId;
      const onProgress = ({ sent, total }: { sent: number; total: number }): void =>
        change(key, sent >= total ? { at: "processing" } : { at: "uploading", share: sent / total });
      const uploaded = await client.attachments.upload(chat, file, { signal, onProgress });
      const done =
        uploaded.status === "ready" || uploaded.status === "failed" || !uploads.has(key)
          ? uploaded
          : await client.attachments.settled(chat, uploaded.id, { signal });
      if (!uploads.has(key)) return await client.attachments.remove(chat, uploaded.id);
      const { id, ...rest } = done;
      change(
        key,
        done.status === "failed"
          ? { at: "failed", reason: "The file could not be processed." }
          : { at: "ready", attachment: { attachment_id: id, ...rest } },
      );
    } catch (error) {
      if (!signal.aborted) change(key, { at: "failed", reason: problemText(error) });
    }
  };

  const letGo = (file: DraftFile | undefined): void => {
    if (file?.preview !== undefined) URL.revokeObjectURL(file.preview);
  };

  return {
    list,
    add: (files, chatId) => {
      for (const file of files) {
        count += 1;
        const key = `file-${count}`;
        const stop = new AbortController();
        uploads.set(key, { stop, chatId });
        const preview = file.type.startsWith("image/") ? URL.createObjectURL(file) : undefined;
        const state = { at: "uploading", share: 0 } as const;
        list.update((now) => [...now, { key, name: file.name || "file", size: file.size, preview, state }]);
        void upload(key, file, chatId, stop.signal);
      }
    },
    remove: (key) => {
      const file = list.get().find((one) => one.key === key);
      const begun = uploads.get(key);
      list.update((files) => files.filter((one) => one.key !== key));
      letGo(file);
      uploads.delete(key);
      // What the server has in full it keeps: its answer is waited for, to delete the file there too.
      if (file?.state.at !== "processing") begun?.stop.abort();
      if (begun === undefined || file?.state.at !== "ready") return;
      const { attachment_id: id } = file.state.attachment;
      begun.chatId.then((chat) => client.attachments.remove(chat, id)).catch(() => {});
    },
    clear: () => {
      for (const file of list.get()) letGo(file);
      list.set([]);
    },
    restore: (attachments) =>
      list.set(
        attachments.map((attachment) => ({
          key: attachment.attachment_id,
          name: attachment.filename,
          size: 0,
          preview: undefined,
          state: { at: "ready", attachment },
        })),
      ),
  };
};
