import type { Actor } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import type { Queryable } from "../db/pool.ts";
import { AppError } from "../errors.ts";
import { chatNotFound } from "./chat.ts";
import { findChatModel } from "./store.ts";

/**
 * Lets the caller into one of his chats, for everything that lives in it (data.md §5): asks the policy
 * point once, then finds the chat under tenant and owner. Throws 403, or 404 with the given title
 * for a chat that is foreign, deleted or absent.
 */
export const enterChat = async (
  deps: { readonly db: Queryable; readonly authorizer: Authorizer },
  actor: Actor,
  chatId: string,
  action: string,
  titles: { readonly notFound?: string; readonly forbidden?: string } = {},
): Promise<{ readonly model: string }> => {
  const scope = await deps.authorizer
    .authorize(actor, { resourceType: "chat", action, resourceId: chatId })
    .catch((error: unknown) => {
      if (!(error instanceof AppError) || error.code !== "forbidden" || titles.forbidden === undefined)
        throw error;
      throw new AppError("forbidden", { title: titles.forbidden, detail: error.message });
    });
  const model = scope.admits({ id: chatId }) ? await findChatModel(deps.db, actor, chatId) : null;
  if (model === null) throw chatNotFound(titles.notFound);
  return { model };
};
