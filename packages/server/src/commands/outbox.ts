import type { Config } from "../config/schema.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { DeadFilter } from "../outbox/dead-letter.ts";
import {
  changeSelected,
  type DeadLetterDeps,
  purgeDeadLetters,
  type Selection,
} from "../outbox/dead-letters.ts";
import { countDead, findDead, groupDead, listDead } from "../outbox/dead-store.ts";
import { outboxChannel } from "../outbox/outbox.ts";
import { setPaused } from "../outbox/partition-store.ts";
import { type QueueSettings, queueKinds, queueSettings, storedQueueName } from "../outbox/queue.ts";
import { repartition } from "../outbox/repartition.ts";
import { readOutboxStatus } from "../outbox/status.ts";
import {
  changeView,
  deadGroupView,
  deadLetterView,
  partitionView,
  statusView,
  waitingView,
} from "../outbox/view.ts";
import { rejectWaiting } from "../outbox/waiting.ts";
import { listWaiting } from "../outbox/waiting-store.ts";
import { noMetrics } from "../telemetry/metrics.ts";
import { UsageError } from "./flags.ts";
import { type Answer, type Operation, operate, standardOutput } from "./operator.ts";
import type { OutboxArguments } from "./outbox-arguments.ts";
import type { OutboxAction } from "./outbox-commands.ts";
import {
  printChange,
  printGroups,
  printLetter,
  printLetters,
  printStatus,
  printWaiting,
} from "./outbox-print.ts";

interface Session extends DeadLetterDeps, Operation {}

/** `mini-chat outbox …` (outbox.md §11). Resolves with the exit code: 1 when not everything asked for was done. */
export const outboxCommand = (given: OutboxArguments, output = standardOutput): Promise<number> =>
  operate(given, output, async (operation) => {
    const { config, db } = operation;
    let woken: Promise<unknown> = Promise.resolve();
    const session: Session = {
      ...operation,
      queues: queueSettings(config.outbox),
      metrics: noMetrics,
      flush: () => {
        woken = wakeWorkers(db, config);
      },
    };
    const answer = await answerTo(session, given.action);
    await woken;
    return answer;
  });

/** Whoever misses it finds the work by polling. */
const wakeWorkers = async (db: Db, { outbox }: Config): Promise<void> => {
  if (!outbox.notify) return;
  await db.query("select pg_notify($1, 'operator')", [outboxChannel]).catch(() => {});
};

const answerTo = (session: Session, action: OutboxAction): Promise<Answer> => {
  switch (action.name) {
    case "status":
      return status(session, action);
    case "waiting":
      return waiting(session, action);
    case "reject":
      return reject(session, action);
    case "dead list":
      return list(session, action);
    case "dead count":
      return count(session, action);
    case "dead show":
      return show(session, action);
    case "dead requeue":
    case "dead discard":
      return change(session, action);
    case "purge":
      return purge(session, action);
    case "pause":
    case "resume":
      return pause(session, action);
    case "repartition":
      return rehash(session, action);
  }
};

type Action<Name extends OutboxAction["name"]> = Extract<OutboxAction, { readonly name: Name }>;

const status = async ({ db, queues }: Session, action: Action<"status">): Promise<Answer> => {
  const wanted = queuesOf(queues, action.queue ?? "all");
  const found = await readOutboxStatus(db, wanted, { withOthers: action.queue === undefined });
  return {
    json: {
      ...statusView(found),
      ...(action.partitions ? { partitions: found.partitions.map(partitionView) } : {}),
    },
    text: printStatus(found, action.partitions ? "busy" : "stuck"),
  };
};

/** The queues of this configuration a text names; throws `UsageError` for none. */
const queuesOf = (queues: Session["queues"], text: string): readonly QueueSettings[] => {
  const all = queueKinds.map((kind) => queues[kind]);
  const wanted = all.filter(({ kind, name }) => text === "all" || text === kind || text === name);
  if (wanted.length > 0) return wanted;
  const known = all.map(({ kind, name }) => `${kind} (${name})`).join(", ");
  throw new UsageError(`--queue must be one of ${known}, or all`);
};

const resolved = <Filter extends Pick<DeadFilter, "queue">>({ queues }: Session, filter: Filter): Filter =>
  filter.queue === undefined ? filter : { ...filter, queue: storedQueueName(queues, filter.queue) };

const waiting = async (session: Session, action: Action<"waiting">): Promise<Answer> => {
  const { limit } = action;
  const found = await listWaiting(session.db, resolved(session, action.filter), { limit: limit + 1 });
  const heads = found.slice(0, limit);
  tellOfMore(session, found.length > limit, limit);
  return {
    json: { items: heads.map(waitingView), more: found.length > limit },
    text: printWaiting(heads, action.filter.all === true),
  };
};

const tellOfMore = ({ progress }: Session, more: boolean, limit: number): void => {
  if (more) progress(`there are more than ${limit}; --limit shows more of them`);
};

const reject = async (session: Session, action: Action<"reject">): Promise<Answer> => {
  const letter = await rejectWaiting(session, action.messageId, action);
  return {
    json: deadLetterView(letter),
    text: `rejected ${letter.messageId}: it is dead letter ${letter.id}`,
  };
};

const list = async (session: Session, action: Action<"dead list">): Promise<Answer> => {
  const { limit, payload } = action;
  const found = await listDead(session.db, resolved(session, action.filter), {
    limit: limit + 1,
    withPayload: payload,
  });
  const letters = found.slice(0, limit);
  tellOfMore(session, found.length > limit, limit);
  return {
    json: { items: letters.map(deadLetterView), more: found.length > limit },
    text: printLetters(letters),
  };
};

const maxGroups = 100;

const count = async (session: Session, action: Action<"dead count">): Promise<Answer> => {
  const filter = resolved(session, action.filter);
  const total = await countDead(session.db, filter);
  const groups = await groupDead(session.db, filter, maxGroups);
  return {
    json: { count: total, groups: groups.map(deadGroupView) },
    text: printGroups(total, groups),
  };
};

const show = async ({ db }: Session, { id, payload }: Action<"dead show">): Promise<Answer> => {
  const letter = await findDead(db, id, payload);
  if (letter === null) throw new Error(`there is no dead letter ${id}`);
  return { json: deadLetterView(letter), text: printLetter(letter) };
};

const change = async (session: Session, action: Action<"dead requeue" | "dead discard">): Promise<Answer> => {
  const [kind, done] =
    action.name === "dead requeue" ? (["requeue", "requeued"] as const) : (["discard", "discarded"] as const);
  const { actor } = action;
  const selection: Selection =
    "ids" in action.selection
      ? action.selection
      : { ...action.selection, filter: resolved(session, action.selection.filter) };
  if (action.dryRun) return wouldChange(session, kind, selection);
  const outcome = await changeSelected(session, kind, selection, {
    actor,
    onProgress: (changed) => session.progress(`${done} ${changed}`),
  });
  const missed = "ids" in selection && outcome.skipped.length > 0;
  return { json: changeView(outcome), text: printChange(done, outcome), code: missed ? 1 : 0 };
};

const wouldChange = async (session: Session, kind: string, selection: Selection): Promise<Answer> => {
  const total =
    "ids" in selection
      ? selection.ids.length
      : Math.min(selection.limit, await countDead(session.db, { ...selection.filter, status: "pending" }));
  return { json: { would_change: total }, text: `would ${kind} ${total} dead letters` };
};

const purge = async (session: Session, action: Action<"purge">): Promise<Answer> => {
  const { allTerminal, actor, queue } = action;
  const olderThanDays = allTerminal ? 0 : session.config.outbox.dead_letter_retention_days;
  const scope = {
    olderThanDays,
    queue: queue === undefined ? undefined : storedQueueName(session.queues, queue),
  };
  const deleted = await purgeDeadLetters(session, scope, {
    actor,
    onProgress: (sofar) => session.progress(`purged ${sofar}`),
  });
  const age = allTerminal ? "" : `, older than ${olderThanDays} days`;
  return { json: { deleted }, text: `purged ${deleted} resolved and discarded dead letters${age}` };
};

const pause = async (session: Session, action: Action<"pause" | "resume">): Promise<Answer> => {
  const { queue, partitionId, actor } = action;
  const paused = action.name === "pause";
  const names = queue === undefined ? [undefined] : queuesOf(session.queues, queue).map(({ name }) => name);
  const partitions = await inTransaction(session.db, async (tx) => {
    const found = [];
    for (const name of names) found.push(...(await setPaused(tx, { partitionId, queue: name }, paused)));
    return found;
  });
  if (partitions.length === 0) throw new Error(`there is no partition ${partitionId ?? `of ${queue}`}`);
  if (!paused) session.flush();
  const ids = partitions.map(({ id }) => id);
  const done = paused ? "paused" : "resumed";
  session.logger.info({ actor, partition_ids: ids, processing_stage: "outbox" }, `outbox partitions ${done}`);
  return { json: { paused, partition_ids: ids }, text: `${done} ${ids.length} partitions` };
};

const rehash = async (session: Session, action: Action<"repartition">): Promise<Answer> => {
  const { actor, count: partitions } = action;
  const wanted = queuesOf(session.queues, action.queue);
  const { queues, adopted } = await repartition(session, wanted, partitions, {
    actor,
    instanceLeaseSecs: session.config.instance_lease_secs,
  });
  const lines = queues.map(({ queue, before, after }) =>
    before === after
      ? `${queue}: has ${after} partitions already`
      : `${queue}: ${before} → ${after} partitions`,
  );
  const others = wanted.length < queueKinds.length ? "; give the other queues the same, or none starts" : "";
  const next = `now set outbox.num_partitions to ${partitions} in every configuration${others}`;
  const strays = adopted === 0 ? [] : [`${adopted} messages were in no partition and have one again`];
  return { json: { queues, adopted }, text: [...lines, ...strays, next].join("\n") };
};
