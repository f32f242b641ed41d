import { type ParsedCleanup, parseCleanupArguments } from "./cleanup-arguments.ts";
import { type ParsedOutbox, parseOutboxArguments } from "./outbox-arguments.ts";
import { type ParsedPurge, parsePurgeArguments } from "./purge-arguments.ts";

export const commands = ["serve", "migrate", "check-config"] as const;
export type Command = (typeof commands)[number];

/** A command line that makes sense. */
export interface Arguments {
  readonly command: Command;
  /** The configuration file; none: the development configuration. */
  readonly config: string | undefined;
  readonly dryRun: boolean;
  /** Configuration values by dotted key, stronger than file and environment (ops.md §2.1). */
  readonly flags: Readonly<Record<string, string>>;
}

export type ParsedArguments =
  | { readonly kind: "run"; readonly given: Arguments }
  | ParsedOutbox
  | ParsedCleanup
  | ParsedPurge;

export const usage = `usage: mini-chat [serve] [--config FILE] [--KEY=VALUE …]
       mini-chat migrate [--dry-run] [--config FILE] [--KEY=VALUE …]
       mini-chat check-config [--config FILE] [--KEY=VALUE …]
       mini-chat outbox COMMAND [FLAGS] [--config FILE] [--KEY=VALUE …]
       mini-chat cleanup status|retry [FLAGS] [--config FILE] [--KEY=VALUE …]
       mini-chat purge [--force CHAT] [--dry-run] [--config FILE] [--KEY=VALUE …]

  serve          serve the API until SIGTERM (the default)
  migrate        bring the database schema to this version; --dry-run only tells
  check-config   check the configuration and print it, secrets masked
  outbox         look after events: status, dead letters, partitions; outbox --help
  cleanup        look after what is to be deleted at providers; cleanup --help
  purge          remove chats for good that were deleted long enough ago; purge --help

  --KEY=VALUE    one configuration key, e.g. --server.bind_address=127.0.0.1:8087;
                 the environment does the same: MINI_CHAT__SERVER__BIND_ADDRESS
  Without --config the development configuration is used: token "dev-token" on loopback.

exit codes: 0 clean stop, 1 runtime failure, 2 configuration, 3 database or migration`;

const isCommand = (text: string): text is Command => commands.some((command) => command === text);

/** Reads a command line, in any order of its parts; never throws. */
export const parseArguments = (argv: readonly string[]): ParsedArguments => {
  let command: Command | undefined;
  let config: string | undefined;
  let dryRun = false;
  const flags: Record<string, string> = {};
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "outbox" && command === undefined && !dryRun) {
      const before = argv.slice(0, argv.length - rest.length - 1);
      return parseOutboxArguments([...rest, ...before]);
    }
    if (word === "cleanup" && command === undefined && !dryRun) {
      const before = argv.slice(0, argv.length - rest.length - 1);
      return parseCleanupArguments([...rest, ...before]);
    }
    if (word === "purge" && command === undefined) {
      return parsePurgeArguments([...rest, ...argv.slice(0, argv.length - rest.length - 1)]);
    }
    if (word === "--help" || word === "-h" || word === "help") return { kind: "help", text: usage };
    if (word === "--dry-run") {
      dryRun = true;
    } else if (word.startsWith("--")) {
      const at = word.indexOf("=");
      const key = word.slice(2, at < 0 ? undefined : at);
      const value = at < 0 ? rest.shift() : word.slice(at + 1);
      if (value === undefined) return wrong(`--${key} needs a value`);
      if (key === "config") config = value;
      else flags[key] = value;
    } else if (command === undefined && isCommand(word)) {
      command = word;
    } else {
      return wrong(`unknown command or argument: ${word}`);
    }
  }
  if (dryRun && command !== "migrate") return wrong("--dry-run belongs to migrate");
  return { kind: "run", given: { command: command ?? "serve", config, dryRun, flags } };
};

const wrong = (message: string): ParsedArguments => ({ kind: "wrong", message, text: usage });
