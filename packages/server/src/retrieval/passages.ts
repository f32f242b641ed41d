import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { findBeginnings } from "./beginning.ts";
import { findExcerpts } from "./find.ts";
import type { Excerpt } from "./rank.ts";

/**
 * What a model is given to answer from: the passages that fit the question, or what the documents begin
 * with when none does. Bytes are those of the rendered passages.
 */
export const findPassages = async (
  db: Db,
  tenantId: TenantId,
  chatId: string,
  search: { readonly question: string; readonly maxBytes: number; readonly maxResults: number },
): Promise<Excerpt[]> => {
  const found = await findExcerpts(db, tenantId, chatId, search.question, search);
  return found.length > 0 ? found : findBeginnings(db, tenantId, chatId, search);
};
