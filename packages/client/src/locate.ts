import type { TurnStatus } from "./generated/api.ts";
import type { Http } from "./http.ts";
import type { Message, Page } from "./model.ts";
import { chatPath, turnPath } from "./paths.ts";

type Question = Pick<Message, "request_id" | "created_at" | "content">;

// The transaction that replaces a turn may wait for locks between the old turn's time and the new one's.
const maxApartMs = 10_000;

/**
 * The id of the turn that replaced another, when the answer that would have told it was lost; undefined while
 * there is none. A turn carries the time at which it was retired (turns.md §15.2): no question of its own stands
 * before that time any more, and the first one after it is its successor's. `content` is that of an edit.
 */
export const findSuccessor = async (
  http: Http,
  replaced: { readonly chatId: string; readonly requestId: string; readonly content?: string },
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const { chatId, requestId, content } = replaced;
  const old = await http.json<TurnStatus>({ path: turnPath(chatId, requestId), signal, attempts: 1 });
  const questionBy = async (condition: string, direction: string): Promise<Question | undefined> => {
    const page = await http.json<Page<Question>>({
      path: `${chatPath(chatId)}/messages`,
      query: {
        $filter: `role eq 'user' and created_at ${condition} ${old.updated_at}`,
        $orderby: `created_at ${direction}`,
        $select: "request_id,created_at,content",
        limit: 1,
      },
      signal,
      attempts: 1,
    });
    return page.items[0];
  };
  const [before, after] = await Promise.all([questionBy("lt", "desc"), questionBy("ge", "asc")]);
  if (before?.request_id === requestId || after === undefined) return undefined;
  if (content !== undefined && after.content !== content) return undefined;
  const apartMs = Date.parse(after.created_at) - Date.parse(old.updated_at);
  return apartMs <= maxApartMs ? after.request_id : undefined;
};
