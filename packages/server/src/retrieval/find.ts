import type { TenantId } from "../auth/actor.ts";
import { type Db, sqlState } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { renderExcerpts } from "./excerpts.ts";
import { findCandidates, limitFinding, type Reach } from "./find-store.ts";
import { chooseExcerpts, type Excerpt } from "./rank.ts";
import { questionWords } from "./words.ts";

export interface FindOptions {
  /** Of the rendered excerpts, their frame included. */
  readonly maxBytes: number;
  /** At most so many excerpts (`max_num_results` of the catalog). */
  readonly maxResults: number;
  /** A question that takes longer finds nothing. */
  readonly timeoutMs?: number;
}

/** Measured with 10,000 chunks (docs/decisions/0012-local-retrieval.md). */
const reach: Reach = { counted: 250, wanted: 600, judged: 1_000, returned: 64 };

/**
 * The passages of the chat's ready documents that say most about the question, best first, within the
 * budget when rendered. Reads only, in a short transaction of its own; deleted documents are outside at once
 * (attachments.md §11). Finds nothing for a question without words.
 */
export const findExcerpts = async (
  db: Db,
  tenantId: TenantId,
  chatId: string,
  question: string,
  options: FindOptions,
): Promise<Excerpt[]> => {
  const words = questionWords(question);
  if (words.length === 0 || options.maxResults < 1) return [];
  const candidates = await inTransaction(db, async (tx) => {
    const [, found] = await Promise.all([
      limitFinding(tx, options.timeoutMs ?? 1_000),
      findCandidates(tx, tenantId, chatId, words, reach),
    ]);
    tx.commitNow();
    return found;
  }).catch((error: unknown) => {
    // A turn goes on without excerpts rather than not at all.
    if (sqlState(error) === "57014") return [];
    throw error;
  });
  return chooseExcerpts(
    candidates,
    options.maxResults,
    (excerpts) => Buffer.byteLength(renderExcerpts(excerpts)) <= options.maxBytes,
  );
};
