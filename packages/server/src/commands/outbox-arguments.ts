import { describeFlags, shown, takeFlags, UsageError } from "./flags.ts";
import { commonFlags, type OperatorArguments } from "./operator-arguments.ts";
import { type OutboxAction, outboxCommands } from "./outbox-commands.ts";

export interface OutboxArguments extends OperatorArguments {
  readonly action: OutboxAction;
}

export type ParsedOutbox =
  | { readonly kind: "outbox"; readonly given: OutboxArguments }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "wrong"; readonly message: string; readonly text: string };

const names = Object.keys(outboxCommands) as OutboxAction["name"][];

const titleOf = (name: OutboxAction["name"]): string => `${name} ${outboxCommands[name].takes}`.trim();

const overview = (): string => {
  const width = Math.max(...names.map((name) => titleOf(name).length));
  const lines = names.map((name) => `  ${titleOf(name).padEnd(width)}  ${outboxCommands[name].about}`);
  return `usage: mini-chat outbox COMMAND [--json] [--config FILE] [--KEY=VALUE …]

${lines.join("\n")}

  mini-chat outbox COMMAND --help tells the flags of one.
  It works on the database itself; a server may run meanwhile, except for repartition.

exit codes: 0 done, 1 not or not all done, 2 command line or configuration, 3 database`;
};

const usageOf = (name: OutboxAction["name"]): string =>
  `usage: mini-chat outbox ${titleOf(name)} [FLAGS] [--KEY=VALUE …]

  ${outboxCommands[name].about}

${describeFlags({ ...outboxCommands[name].flags, ...commonFlags })}`;

/** Reads what follows `mini-chat outbox`; never throws. */
export const parseOutboxArguments = (given: readonly string[]): ParsedOutbox => {
  const argv = commandFirst(given);
  const name = nameOf(argv);
  const wantsHelp = argv.some((word) => word === "--help" || word === "-h" || word === "help");
  if (name === undefined) {
    if (wantsHelp || argv.length === 0) return { kind: "help", text: overview() };
    const first = argv
      .filter((word) => !word.startsWith("-"))
      .slice(0, 2)
      .join(" ");
    return { kind: "wrong", message: `unknown command: outbox ${first}`, text: overview() };
  }
  if (wantsHelp) return { kind: "help", text: usageOf(name.name) };
  const { flags, read } = outboxCommands[name.name];
  try {
    const words = takeFlags(name.left, { ...flags, ...commonFlags });
    const action = read(words);
    if (words.rest.length > 0 && outboxCommands[name.name].takes === "") {
      throw new UsageError(`unexpected argument ${shown(words.rest[0] ?? "")}`);
    }
    const { values, switches, overrides } = words;
    return {
      kind: "outbox",
      given: { action, json: switches.has("json"), config: values.get("config"), flags: overrides },
    };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { kind: "wrong", message: `outbox ${name.name}: ${error.message}`, text: usageOf(name.name) };
  }
};

/** Flags all commands share may stand before the command. */
const commandFirst = (argv: readonly string[]): readonly string[] => {
  let at = 0;
  for (let word = argv[at]; word?.startsWith("--") === true; word = argv[at]) {
    if (word === "--help") break;
    at += word === "--json" || word.includes("=") ? 1 : 2;
  }
  return [...argv.slice(at), ...argv.slice(0, at)];
};

/** The command whose words come first, and what is left; `dead purge` is `purge` (outbox.md §11). */
const nameOf = (
  argv: readonly string[],
): { readonly name: OutboxAction["name"]; readonly left: readonly string[] } | undefined => {
  const [first = "", second = ""] = argv;
  if (first === "dead" && second === "purge") return { name: "purge", left: argv.slice(2) };
  for (const name of names) {
    const words = name.split(" ");
    if (words.every((word, at) => argv[at] === word)) return { name, left: argv.slice(words.length) };
  }
  return undefined;
};
