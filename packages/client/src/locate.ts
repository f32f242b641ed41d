import type { TurnStatus } from "./generated/api.ts";
import type { Http } from "./http.ts";
import type { Message, Page } from "./model.ts";
import { turnPath } from "./recover.ts";

/**
 * The id of the turn that replaced another, when the answer that would have told it was lost; undefined when
 * there is none. One transaction retires the old turn and stores the new question (turns.md §15.2), so both
 * carry the same time, give or take the microsecond that keeps messages in order.
 */
export const findSuccessor = async (
  http: Http,
  chatId: string,
  requestId: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> => {
  const [old, questions] = await Promise.all([
    http.json<TurnStatus>({ path: turnPath(chatId, requestId), signal, attempts: 1 }),
    http.json<Page<Pick<Message, "request_id" | "created_at">>>({
      path: `/chats/${encodeURIComponent(chatId)}/messages`,
      query: {
        $filter: "role eq 'user'",
        $orderby: "created_at desc",
        $select: "request_id,created_at",
        limit: 1,
      },
      signal,
      attempts: 1,
    }),
  ]);
  const [latest] = questions.items;
  if (latest === undefined || latest.request_id === requestId) return undefined;
  const apartMs = Date.parse(latest.created_at) - Date.parse(old.updated_at);
  return apartMs === 0 || apartMs === 1 ? latest.request_id : undefined;
};
