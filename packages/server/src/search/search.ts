import type { Actor } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import { type Db, sqlState } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { type PageInfo, parseListQuery, toPage } from "../http/paging.ts";
import { findHits, type Hit, hitList, parseText } from "./find.ts";
import { type FoundWord, planQuery, readQuery } from "./query.ts";
import { everything, nearStretch } from "./stretch.ts";

export interface SearchDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
}

export interface FoundPage {
  readonly rows: readonly Hit[];
  readonly words: readonly FoundWord[];
  readonly page_info: PageInfo;
}

/** One search may keep the database busy for this long; then it is 503 `service_unavailable`. */
const timeoutMs = 2_000;

/**
 * One page of the caller's messages and chat titles that match, newest first. A text that names no word to
 * find finds nothing. Throws 400 for a text that is too long and 400 or 422 for a bad limit or cursor, both
 * before the policy point is asked, 403 when refused.
 */
export const searchChats = async (
  deps: SearchDeps,
  actor: Actor,
  query: { readonly q: string; readonly limit?: string | undefined; readonly cursor?: string | undefined },
): Promise<FoundPage> => {
  const asked = readQuery(query.q);
  const table = hitList(asked);
  const request = parseListQuery(table, { limit: query.limit, cursor: query.cursor });
  const scope = await deps.authorizer.authorize(actor, { resourceType: "chat", action: "list_messages" });
  const keyOf = (hit: Hit, field: string): string => (field === "id" ? hit.id : hit.created_at);
  return inTransaction(deps.db, async (tx) => {
    const parsed = await parseText(tx, asked, timeoutMs);
    const words = parsed === undefined ? null : planQuery(parsed.query, parsed.findable);
    if (parsed === undefined || words === null) {
      return {
        rows: [],
        words: [],
        page_info: { limit: request.limit, next_cursor: null, prev_cursor: null },
      };
    }
    const search = { table, request, words };
    const near = await findHits(tx, actor, scope, search, nearStretch(request.cursor, parsed.now));
    const found = near.length > request.limit ? near : await findHits(tx, actor, scope, search, everything);
    return { ...toPage(table, request, found, keyOf), words: words.words };
  }).catch((error: unknown) => {
    throw sqlState(error) === "57014" ? tookTooLong(error) : error;
  });
};

const tookTooLong = (cause: unknown): AppError =>
  new AppError("service_unavailable", {
    detail: "The search took too long and was given up; rarer words are found faster.",
    headers: { "retry-after": "5" },
    cause,
  });
