import type { TenantId } from "../auth/actor.ts";
import type { Queryable } from "../db/pool.ts";
import { findFirstChunks } from "./beginning-store.ts";
import { renderExcerpts } from "./excerpts.ts";
import type { Excerpt } from "./rank.ts";

/** Chunks have at least a sentence: a document of so many bytes has no more of them. */
const minChunkBytes = 100;

/** The text a document begins with, at most so many bytes; null when it has none. */
export const beginningOf = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  attachmentId: string,
  maxBytes: number,
): Promise<string | null> => {
  const perDocument = Math.ceil(maxBytes / minChunkBytes);
  const chunks = await findFirstChunks(db, tenantId, chatId, {
    attachmentId,
    perDocument,
    limit: perDocument,
  });
  let text = "";
  for (const { content, overlap } of chunks) {
    const longer = text === "" ? content : `${text}\n${content.slice(overlap)}`;
    if (Buffer.byteLength(longer) > maxBytes) break;
    text = longer;
  }
  return text.trim() === "" ? null : text;
};

/**
 * What the chat's documents begin with, for a question whose words are in none of them ("What is this
 * about?"): the newest document first, each in turn, within the budget when rendered.
 */
export const findBeginnings = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  options: { readonly maxBytes: number; readonly maxResults: number },
): Promise<Excerpt[]> => {
  const { maxBytes, maxResults } = options;
  const of = { attachmentId: null, perDocument: maxResults, limit: maxResults };
  const chosen: Excerpt[] = [];
  for (const { attachmentId, filename, content: text, position } of await findFirstChunks(
    db,
    tenantId,
    chatId,
    of,
  )) {
    const next = { attachmentId, filename, position, text, score: 0 };
    if (Buffer.byteLength(renderExcerpts([...chosen, next])) > maxBytes) break;
    chosen.push(next);
  }
  return chosen;
};
