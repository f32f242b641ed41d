import type { DebtFilter } from "../attachments/cleanup-scan-store.ts";
import { isUuid } from "../lib/id.ts";
import { actorFlag, actorOf } from "./actor.ts";
import { describeFlags, type Flag, readInt, shown, takeFlags, UsageError, type Words } from "./flags.ts";
import { commonFlags, type OperatorArguments } from "./operator-arguments.ts";

/** What `mini-chat cleanup …` was asked to do. */
export type CleanupAction =
  | { readonly name: "status"; readonly filter: DebtFilter; readonly limit: number }
  | {
      readonly name: "retry";
      readonly filter: DebtFilter;
      readonly limit: number;
      readonly dryRun: boolean;
      readonly actor: string;
    };

export interface CleanupArguments extends OperatorArguments {
  readonly action: CleanupAction;
}

export type ParsedCleanup =
  | { readonly kind: "cleanup"; readonly given: CleanupArguments }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "wrong"; readonly message: string; readonly text: string };

const filterFlags = {
  tenant: { value: "UUID", help: "of this tenant" },
  chat: { value: "UUID", help: "of this chat" },
  attachment: { value: "UUID", help: "this attachment alone" },
} as const satisfies Record<string, Flag>;

const statusFlags = {
  ...filterFlags,
  limit: { value: "N", help: "list at most so many of each; default: 50" },
  ...commonFlags,
} as const;

const retryFlags = {
  ...filterFlags,
  all: { help: "everything that was given up" },
  limit: { value: "N", help: "at most so many files and stores, longest ago first; default: 10000" },
  "dry-run": { help: "only tell how many" },
  actor: actorFlag,
  ...commonFlags,
} as const;

const defaultListed = 50;
const maxRows = 10_000;

const usage = `usage: mini-chat cleanup status [FLAGS] [--KEY=VALUE …]
       mini-chat cleanup retry [FLAGS] [--KEY=VALUE …]

  status  files and vector stores that are still to be deleted at providers, and those that were given up
${describeFlags(statusFlags)}

  retry   has given up ones tried again by the workers: those that the flags say, or --all
${describeFlags(retryFlags)}

exit codes: 0 done, 1 not done, 2 command line or configuration, 3 database`;

/** Reads what follows `mini-chat cleanup`; never throws. */
export const parseCleanupArguments = (given: readonly string[]): ParsedCleanup => {
  const isHelp = (word: string): boolean => word === "--help" || word === "-h" || word === "help";
  if (given.length === 0 || given.some(isHelp)) return { kind: "help", text: usage };
  const at = given.findIndex((word) => word === "status" || word === "retry");
  const name = given[at];
  const argv = given.filter((_word, index) => index !== at);
  try {
    if (name !== "status" && name !== "retry") throw new UsageError("needs status or retry");
    const words = takeFlags(argv, name === "status" ? statusFlags : retryFlags);
    const [stray] = words.rest;
    if (stray !== undefined) throw new UsageError(`unexpected argument ${shown(stray)}`);
    const action = name === "status" ? statusOf(words) : retryOf(words);
    const { values, switches, overrides } = words;
    return {
      kind: "cleanup",
      given: { action, json: switches.has("json"), config: values.get("config"), flags: overrides },
    };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { kind: "wrong", message: `cleanup: ${error.message}`, text: usage };
  }
};

const statusOf = (words: Words): CleanupAction => ({
  name: "status",
  filter: filterOf(words),
  limit: limitOf(words) ?? defaultListed,
});

const retryOf = (words: Words): CleanupAction => {
  const scoped = Object.keys(filterFlags).some((flag) => words.values.has(flag));
  const all = words.switches.has("all");
  if (all && scoped) throw new UsageError("--all makes no sense beside what it would leave out");
  if (!all && !scoped) throw new UsageError("retry needs a flag that says which, or --all");
  return {
    name: "retry",
    filter: filterOf(words),
    limit: limitOf(words) ?? maxRows,
    dryRun: words.switches.has("dry-run"),
    actor: actorOf(words),
  };
};

const limitOf = ({ values }: Words): number | undefined => {
  const text = values.get("limit");
  return text === undefined ? undefined : readInt("--limit", text, 1, maxRows);
};

const filterOf = (words: Words): DebtFilter => ({
  tenantId: uuidOf(words, "tenant"),
  chatId: uuidOf(words, "chat"),
  attachmentId: uuidOf(words, "attachment"),
});

const uuidOf = ({ values }: Words, flag: keyof typeof filterFlags): string | undefined => {
  const text = values.get(flag);
  if (text !== undefined && !isUuid(text)) {
    throw new UsageError(`--${flag} must be a UUID, not ${shown(text)}`);
  }
  return text?.toLowerCase();
};
