import { userInfo } from "node:os";
import { isActorName } from "../outbox/dead-letter.ts";
import { type Flag, UsageError, type Words } from "./flags.ts";

/** Of every command that changes something. */
export const actorFlag = {
  value: "NAME",
  help: "who does it, for the log; default: the account's name",
} as const satisfies Flag;

/** Who a command is done by; throws `UsageError` for a name that would not do in a log. */
export const actorOf = ({ values }: Words): string => {
  const given = values.get("actor");
  if (given !== undefined && !isActorName(given)) {
    throw new UsageError("--actor must be 1 to 128 printable characters");
  }
  return given ?? accountName();
};

/** An account may have no name, as in a container run under a number. */
const accountName = (): string => {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? "unknown"}`;
  }
};
