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
  add(files: readonly File[]): void;
  /** Takes a file out; one that was uploaded is deleted on the server too. */
  remove(key: string): void;
  /** Empties the list: those that are ready belong to a message now. */
  take(): readonly AttachmentSummary[];
  /** Puts the files of a refused message back, first in the list. */
  giveBack(attachments: readonly AttachmentSummary[]): void;
  /** Takes all out. */
  discard(): void;
}

/** The files of the next message of a chat; `chat` tells its id once one is needed. */
export const createDraftFiles = (client: Client, chat: () => Promise<string>): DraftFiles => {
  const list = createStore<readonly DraftFile[]>([]);
  const uploads = new Map<string, AbortController>();
  let count = 0;

  const change = (key: string, state: DraftFile["state"]): void =>
    list.update((files) => files.map((file) => (file.key === key ? { ...file, state } : file)));

  const upload = async (key: string, file: File, signal: AbortSignal): Promise<void> => {
    try {
      const chatId = await chat();
      const onProgress = ({ sent, total }: { sent: number; total: number }): void =>
        change(key, sent >= total ? { at: "processing" } : { at: "uploading", share: sent / total });
      const uploaded = await client.attachments.upload(chatId, file, { signal, onProgress });
      const done =
        uploaded.status === "ready" || uploaded.status === "failed" || !uploads.has(key)
          ? uploaded
          : await client.attachments.settled(chatId, uploaded.id, { signal });
      if (!uploads.has(key)) return await client.attachments.remove(chatId, uploaded.id);
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

  const remove: DraftFiles["remove"] = (key) => {
    const file = list.get().find((one) => one.key === key);
    list.update((files) => files.filter((one) => one.key !== key));
    letGo(file);
    // What the server has in full it keeps: its answer is waited for, to delete the file there too.
    if (file?.state.at !== "processing") uploads.get(key)?.abort();
    uploads.delete(key);
    if (file?.state.at !== "ready") return;
    const { attachment_id: id } = file.state.attachment;
    chat()
      .then((chatId) => client.attachments.remove(chatId, id))
      .catch(() => {});
  };

  return {
    list,
    add: (files) => {
      for (const file of files) {
        count += 1;
        const key = `file-${count}`;
        const stop = new AbortController();
        uploads.set(key, stop);
        const preview = file.type.startsWith("image/") ? URL.createObjectURL(file) : undefined;
        const state = { at: "uploading", share: 0 } as const;
        list.update((now) => [...now, { key, name: file.name || "file", size: file.size, preview, state }]);
        void upload(key, file, stop.signal);
      }
    },
    remove,
    take: () => {
      const files = list.get();
      for (const file of files) {
        letGo(file);
        uploads.delete(file.key);
      }
      list.set([]);
      return files.flatMap(({ state }) => (state.at === "ready" ? [state.attachment] : []));
    },
    giveBack: (attachments) =>
      list.update((files) => [
        ...attachments.map(
          (attachment): DraftFile => ({
            key: attachment.attachment_id,
            name: attachment.filename,
            size: 0,
            preview: undefined,
            state: { at: "ready", attachment },
          }),
        ),
        ...files,
      ]),
    discard: () => {
      for (const { key } of list.get()) remove(key);
    },
  };
};
