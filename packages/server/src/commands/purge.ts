import { purgeDeps } from "../app/purge.ts";
import { type Forced, forcePurge, type Refusal } from "../chats/force-purge.ts";
import { type Blocker, purgeChats } from "../chats/purge.ts";
import { ConfigError } from "../config/schema.ts";
import { noMetrics } from "../telemetry/metrics.ts";
import { type Answer, type Operation, operate, standardOutput } from "./operator.ts";
import type { PurgeArguments } from "./purge-arguments.ts";
import { table } from "./table.ts";

/** `mini-chat purge` (data.md §4). Resolves with the exit code; throws for a chat that cannot be forced. */
export const purgeCommand = (given: PurgeArguments, output = standardOutput): Promise<number> =>
  operate(given, output, (operation) =>
    given.force === undefined ? purgeDue(operation, given) : purgeForced(operation, given, given.force),
  );

const depsOf = (operation: Operation) => purgeDeps({ ...operation, metrics: noMetrics });

const texts: Readonly<Record<Blocker | "grace_period", string>> = {
  cleanup_event: "its cleanup event is not delivered",
  dead_letter: "a dead letter of it is pending",
  running_turn: "a turn is running",
  cleanup_pending: "files are still to be deleted at the provider",
  cleanup_failed: "files could not be deleted at the provider",
  vector_store: "its vector store still exists",
  grace_period: "its grace is not over",
};

interface Waiting {
  readonly chat_id: string;
  readonly tenant_id: string;
  readonly reason: Blocker;
}

const maxShown = 100;

const purgeDue = async (operation: Operation, { dryRun, actor }: PurgeArguments): Promise<Answer> => {
  const { chat_grace_days: graceDays } = operation.config.retention;
  if (graceDays === 0) {
    const message = "is 0: chats are never purged; --force CHAT purges one all the same";
    throw new ConfigError([{ key: "retention.chat_grace_days", message }]);
  }
  const waiting: Waiting[] = [];
  const done = dryRun ? "would purge" : "purged";
  const { purged, blocked, failed } = await purgeChats(depsOf(operation), {
    graceDays,
    dryRun,
    signal: new AbortController().signal,
    onBatch: (sofar) => operation.progress(`${done} ${sofar.purged}`),
    onBlocked: ({ id, tenantId }, reason) => {
      if (waiting.length < maxShown) waiting.push({ chat_id: id, tenant_id: tenantId, reason });
    },
  });
  if (!dryRun)
    operation.logger.info({ actor, purged, blocked, failed, processing_stage: "cleanup" }, "chats purged");
  return {
    json: { dry_run: dryRun, purged, blocked, failed, waiting },
    code: failed > 0 ? 1 : 0,
    text: [
      `${done} ${purged} chats deleted more than ${graceDays} days ago`,
      ...(failed > 0 ? [`${failed} chats failed; the log above tells why`] : []),
      ...printWaiting(blocked, waiting),
    ].join("\n"),
  };
};

const printWaiting = (
  blocked: Readonly<Partial<Record<Blocker, number>>>,
  waiting: readonly Waiting[],
): string[] => {
  const total = Object.values(blocked).reduce((sum, count) => sum + count, 0);
  if (total === 0) return [];
  const lines = table(
    [
      { head: "CHAT", cell: (row) => row.chat_id },
      { head: "TENANT", cell: (row) => row.tenant_id },
      { head: "WAITS BECAUSE", cell: (row) => texts[row.reason] },
    ],
    waiting,
  );
  const more = total > waiting.length ? [`and ${total - waiting.length} more`] : [];
  return [`${total} chats wait`, lines, ...more];
};

const refusals: Readonly<Record<Refusal, (chatId: string) => string>> = {
  unknown: (chatId) => `there is no chat ${chatId}`,
  not_deleted: (chatId) => `chat ${chatId} is not deleted; nobody but its owner deletes it`,
  running_turn: (chatId) =>
    `a turn of chat ${chatId} is running and holds a reserve; it ends by itself or by the watchdog, then try again`,
};

const purgeForced = async (
  operation: Operation,
  { dryRun, actor }: PurgeArguments,
  chatId: string,
): Promise<Answer> => {
  const { chat_grace_days: graceDays } = operation.config.retention;
  const forced: Forced = await forcePurge(depsOf(operation), chatId, { graceDays, actor, dryRun });
  if (forced.refused !== null) throw new Error(refusals[forced.refused](chatId));
  const over = forced.overridden.map((reason) => `  although ${texts[reason]}`);
  return {
    json: { dry_run: dryRun, chat_id: chatId, overridden: forced.overridden },
    text: [`${dryRun ? "would purge" : "purged"} chat ${chatId}`, ...over].join("\n"),
  };
};
