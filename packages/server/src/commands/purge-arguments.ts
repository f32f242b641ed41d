import { isUuid } from "../lib/id.ts";
import { actorFlag, actorOf } from "./actor.ts";
import { describeFlags, shown, takeFlags, UsageError } from "./flags.ts";
import { commonFlags, type OperatorArguments } from "./operator-arguments.ts";

export interface PurgeArguments extends OperatorArguments {
  /** One chat, whatever blocks it; none: all that are due and free. */
  readonly force: string | undefined;
  readonly dryRun: boolean;
  readonly actor: string;
}

export type ParsedPurge =
  | { readonly kind: "purge"; readonly given: PurgeArguments }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "wrong"; readonly message: string; readonly text: string };

const flags = {
  force: { value: "CHAT", help: "this deleted chat alone, now, whatever it waits for" },
  "dry-run": { help: "only tell what would be purged and what waits" },
  actor: actorFlag,
  ...commonFlags,
} as const;

const usage = `usage: mini-chat purge [FLAGS] [--KEY=VALUE …]

  Removes deleted chats for good once retention.chat_grace_days are over and nothing of them is left at a
  provider or in the outbox. Servers do it by themselves every hour; it may be done beside them.

${describeFlags(flags)}

exit codes: 0 done, also when chats wait, 1 not done, 2 command line or configuration, 3 database`;

/** Reads what stands beside `mini-chat purge`; never throws. */
export const parsePurgeArguments = (argv: readonly string[]): ParsedPurge => {
  if (argv.some((word) => word === "--help" || word === "-h" || word === "help")) {
    return { kind: "help", text: usage };
  }
  try {
    const words = takeFlags(argv, flags);
    const { values, switches, rest, overrides } = words;
    if (rest.length > 0) throw new UsageError(`unexpected argument ${shown(rest[0] ?? "")}`);
    const force = values.get("force");
    if (force !== undefined && !isUuid(force)) {
      throw new UsageError(`--force must be the id of a chat, not ${shown(force)}`);
    }
    return {
      kind: "purge",
      given: {
        force: force?.toLowerCase(),
        dryRun: switches.has("dry-run"),
        actor: actorOf(words),
        json: switches.has("json"),
        config: values.get("config"),
        flags: overrides,
      },
    };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { kind: "wrong", message: `purge: ${error.message}`, text: usage };
  }
};
