import type { Actor } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { invariant } from "../lib/assert.ts";
import { uuidV7 } from "../lib/id.ts";
import { defaultModel, findModel } from "../policy/select.ts";
import type { PolicyService } from "../policy/service.ts";
import { type Chat, normalizeTitle } from "./chat.ts";
import { insertChat } from "./store.ts";

export interface CreateDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
  readonly policy: Pick<PolicyService, "resolve">;
}

/**
 * Creates a chat of the caller. Without `model` the default of policy.md §3 is taken. Throws 400
 * `invalid_model` for an empty, unknown or disabled model, 400 for a bad title, 403 when refused.
 */
export const createChat = async (
  deps: CreateDeps,
  actor: Actor,
  input: {
    readonly title: string | undefined;
    readonly model: string | undefined;
    readonly isTemporary: boolean;
  },
): Promise<Chat> => {
  const id = uuidV7();
  const scope = await deps.authorizer.authorize(actor, { resourceType: "chat", action: "create" });
  // The new row must satisfy the decision's constraints (data.md §6).
  if (!scope.admits({ id })) throw new AppError("forbidden");
  const title = input.title === undefined ? null : normalizeTitle(input.title);
  const model = await chooseModel(deps, actor, input.model);
  return inTransaction(deps.db, async (tx) => {
    const chat = await insertChat(tx, actor, { id, model, title, isTemporary: input.isTemporary });
    invariant(chat !== undefined, "an inserted chat is returned");
    return chat;
  });
};

const chooseModel = async (deps: CreateDeps, actor: Actor, wanted: string | undefined): Promise<string> => {
  const { snapshot } = await deps.policy.resolve(actor);
  const model = wanted === undefined ? defaultModel(snapshot) : findModel(snapshot, wanted);
  if (model?.enabled === true) return model.id;
  throw new AppError("invalid_model", {
    detail: wanted === undefined ? "No model is available." : "model names no enabled model.",
    ...(wanted === undefined ? {} : { errors: [{ field: "model", message: "names no enabled model" }] }),
  });
};
