import { type Chat, chatView } from "../chats/chat.ts";
import { stringifyJson } from "../lib/json.ts";
import type { WholeMessage } from "../messages/walk.ts";
import { markdownHead, markdownMessage } from "./markdown.ts";

export type ExportFormat = "markdown" | "json";

type Pages = AsyncIterable<readonly WholeMessage[]>;

async function* markdown(chat: Chat, exportedAt: string, pages: Pages): AsyncGenerator<string> {
  yield markdownHead(chat, exportedAt);
  for await (const page of pages) for (const message of page) yield markdownMessage(message);
}

async function* json(chat: Chat, exportedAt: string, pages: Pages): AsyncGenerator<string> {
  yield `{"chat":${stringifyJson(chatView(chat))},"exported_at":${stringifyJson(exportedAt)},"messages":[`;
  let separator = "\n";
  for await (const page of pages) {
    for (const { view, citations } of page) {
      yield separator + stringifyJson(citations.length === 0 ? view : { ...view, citations });
      separator = ",\n";
    }
  }
  yield "\n]}\n";
}

/** The document piece by piece, a message at a time. */
export const renderExport = (
  format: ExportFormat,
  chat: Chat,
  exportedAt: string,
  pages: Pages,
): AsyncGenerator<string> => (format === "json" ? json : markdown)(chat, exportedAt, pages);
