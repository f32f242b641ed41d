import type { Client, TurnStatus } from "@mini-chat/client";
import { hasCode } from "@mini-chat/client";
import { type Answer, emptyAnswer, type TurnView } from "./turn-view.ts";

/** Where there is no answer in the list of messages: how the turn stands. */
const standing = ({ state, error_code: code }: TurnStatus): Answer => {
  switch (state) {
    case "running":
    case "done":
      // Done a moment ago: its answer comes by the same way.
      return emptyAnswer("waiting");
    case "cancelled":
      return emptyAnswer("cancelled");
    default:
      return { ...emptyAnswer("failed"), failure: code };
  }
};

/** A question without an answer at the end of a chat is being answered, or was not; the turn's status tells. */
export const resolveLast = async (
  client: Client,
  chatId: string,
  turns: readonly TurnView[],
): Promise<readonly TurnView[]> => {
  const last = turns.at(-1);
  if (last?.requestId === undefined || last.answer.state !== "none") return turns;
  try {
    const status = await client.turns.status(chatId, last.requestId);
    return [...turns.slice(0, -1), { ...last, answer: standing(status) }];
  } catch (error) {
    if (hasCode(error, "turn_not_found")) return turns;
    throw error;
  }
};

/** Whether an answer in the list of messages is only the part of it that had come when its turn was cancelled. */
export const isPartial = async (client: Client, chatId: string, requestId: string): Promise<boolean> =>
  (await client.turns.status(chatId, requestId)).state === "cancelled";
