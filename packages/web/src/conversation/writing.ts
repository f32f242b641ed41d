import type { AttachmentSummary, Client } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import { createDraftFiles, type DraftFiles } from "./attachments.ts";

/** A message as it is handed over to be sent. */
export interface Draft {
  readonly content: string;
  readonly attachments: readonly AttachmentSummary[];
  readonly webSearch: boolean;
}

/** The next message of a chat while it is written; it stays when another chat is looked at. */
export interface Writing {
  readonly text: Store<string>;
  readonly webSearch: Store<boolean>;
  readonly files: DraftFiles;
  /** The message, which leaves nothing behind here; files that are not ready are left out of it. */
  take(): Draft;
  /** A message that was refused comes back, before what was written meanwhile. */
  giveBack(draft: Draft): void;
}

export const createWriting = (client: Client, chat: () => Promise<string>): Writing => {
  const text = createStore("");
  const webSearch = createStore(false);
  const files = createDraftFiles(client, chat);
  return {
    text,
    webSearch,
    files,
    take: () => {
      const draft = { content: text.get(), attachments: files.take(), webSearch: webSearch.get() };
      text.set("");
      return draft;
    },
    giveBack: ({ content, attachments }) => {
      text.update((now) => [content, now].filter((one) => one.trim() !== "").join("\n\n"));
      files.giveBack(attachments);
    },
  };
};
