import { isUuid } from "../lib/id.ts";
import { type DeadFilter, deadStatuses, defaultDeadLimit } from "../outbox/dead-letter.ts";
import type { Selection } from "../outbox/dead-letters.ts";
import { isPartitionCount, maxPartitions } from "../outbox/repartition.ts";
import { maxRejectReason } from "../outbox/waiting.ts";
import type { WaitingFilter } from "../outbox/waiting-store.ts";
import { actorFlag, actorOf } from "./actor.ts";
import { type Flag, readChoice, readInt, shown, UsageError, type Words } from "./flags.ts";

/** What `mini-chat outbox …` was asked to do. Queues are as they were typed: a kind, a name or `all`. */
export type OutboxAction =
  | { readonly name: "status"; readonly queue: string | undefined; readonly partitions: boolean }
  | {
      readonly name: "dead list";
      readonly filter: DeadFilter;
      readonly limit: number;
      readonly payload: boolean;
    }
  | {
      readonly name: "waiting";
      readonly filter: WaitingFilter;
      readonly limit: number;
    }
  | {
      readonly name: "reject";
      readonly messageId: string;
      readonly reason: string | undefined;
      readonly actor: string;
    }
  | { readonly name: "dead count"; readonly filter: DeadFilter }
  | { readonly name: "dead show"; readonly id: bigint; readonly payload: boolean }
  | {
      readonly name: "dead requeue" | "dead discard";
      readonly selection: Selection;
      readonly dryRun: boolean;
      readonly actor: string;
    }
  | {
      readonly name: "purge";
      readonly queue: string | undefined;
      readonly allTerminal: boolean;
      readonly actor: string;
    }
  | {
      readonly name: "pause" | "resume";
      readonly queue: string | undefined;
      readonly partitionId: number | undefined;
      readonly actor: string;
    }
  | { readonly name: "repartition"; readonly queue: string; readonly count: number; readonly actor: string };

/** One of them, as the command line knows it. */
export interface OutboxCommand {
  /** What follows the name. */
  readonly takes: string;
  readonly about: string;
  readonly flags: Readonly<Record<string, Flag>>;
  readonly read: (words: Words) => OutboxAction;
}

const queueFlag = { value: "QUEUE", help: "a queue by its name or its kind, e.g. usage" } as const;
const payloadFlag = { help: "show payloads, which may hold what users wrote" } as const;

const scopeFlags = {
  queue: queueFlag,
  tenant: { value: "UUID", help: "of this tenant" },
  kind: { value: "KIND", help: "of this kind of event" },
  partition: { value: "ID", help: "of the partition with this id, as logs and status show it" },
  fingerprint: { value: "TEXT", help: "of this cause, as list and count show it" },
} as const satisfies Record<string, Flag>;

const statusFlag = { value: "STATUS", help: `${deadStatuses.join(", ")} or all; default: pending` } as const;

const maxListed = 10_000;
const maxInt = 2_147_483_647;

/** `mini-chat outbox …`: the flags of each command, and how its action is read from them. */
export const outboxCommands: Readonly<Record<OutboxAction["name"], OutboxCommand>> = {
  status: {
    takes: "",
    about: "what waits, what is stuck and what was given up, by queue",
    flags: {
      queue: queueFlag,
      partitions: { help: "also the partitions that get on, where anything waits" },
    },
    read: ({ values, switches }) => ({
      name: "status",
      queue: values.get("queue"),
      partitions: switches.has("partitions"),
    }),
  },
  waiting: {
    takes: "",
    about: "events that are tried again and again, each the first of its tenant or chat; oldest first",
    flags: {
      queue: scopeFlags.queue,
      tenant: scopeFlags.tenant,
      partition: scopeFlags.partition,
      all: { help: "also those that have not failed" },
      limit: { value: "N", help: `at most so many; default: ${defaultDeadLimit}` },
    },
    read: (words) => {
      const { queue, tenantId, partitionId } = filterOf(words);
      return {
        name: "waiting",
        filter: { queue, tenantId, partitionId, all: words.switches.has("all") },
        limit: limitOf(words, maxListed) ?? defaultDeadLimit,
      };
    },
  },
  reject: {
    takes: "",
    about: "give up an event that waits: it becomes a dead letter, and what waits behind it goes on",
    flags: {
      message: { value: "ID", help: "its message id, as waiting and logs show it" },
      reason: { value: "TEXT", help: "why, for the dead letter and the log" },
      actor: actorFlag,
    },
    read: (words) => {
      const messageId = words.values.get("message");
      const reason = words.values.get("reason")?.trim();
      if (messageId === undefined) throw new UsageError("reject needs --message ID");
      if (!isUuid(messageId)) throw new UsageError(`--message must be a UUID, not ${shown(messageId)}`);
      if (reason !== undefined && (reason === "" || reason.length > maxRejectReason)) {
        throw new UsageError(`--reason must be 1 to ${maxRejectReason} characters`);
      }
      return { name: "reject", messageId: messageId.toLowerCase(), reason, actor: actorOf(words) };
    },
  },
  "dead list": {
    takes: "",
    about: "dead letters, newest first",
    flags: {
      ...scopeFlags,
      status: statusFlag,
      limit: { value: "N", help: `at most so many; default: ${defaultDeadLimit}` },
      payload: payloadFlag,
    },
    read: (words) => ({
      name: "dead list",
      filter: filterOf(words),
      limit: limitOf(words, maxListed) ?? defaultDeadLimit,
      payload: words.switches.has("payload"),
    }),
  },
  "dead count": {
    takes: "",
    about: "how many there are, by cause",
    flags: { ...scopeFlags, status: statusFlag },
    read: (words) => ({ name: "dead count", filter: filterOf(words) }),
  },
  "dead show": {
    takes: "ID",
    about: "all there is to know of one",
    flags: { payload: payloadFlag },
    read: ({ rest, switches }) => {
      const [id, ...more] = idsOf(rest);
      if (id === undefined || more.length > 0) throw new UsageError("dead show takes one ID");
      return { name: "dead show", id, payload: switches.has("payload") };
    },
  },
  "dead requeue": {
    takes: "[ID …]",
    about: "deliver again: those named, or with flags all pending ones that fit",
    flags: changeFlags(),
    read: (words) => ({ name: "dead requeue", ...changeOf(words, "dead requeue") }),
  },
  "dead discard": {
    takes: "[ID …]",
    about: "give up for good: those named, or with flags all pending ones that fit",
    flags: changeFlags(),
    read: (words) => ({ name: "dead discard", ...changeOf(words, "dead discard") }),
  },
  purge: {
    takes: "",
    about: "delete resolved and discarded dead letters older than outbox.dead_letter_retention_days",
    flags: {
      queue: queueFlag,
      "all-terminal": { help: "whatever their age; pending ones are never deleted" },
      actor: actorFlag,
    },
    read: (words) => ({
      name: "purge",
      queue: words.values.get("queue"),
      allTerminal: words.switches.has("all-terminal"),
      actor: actorOf(words),
    }),
  },
  pause: {
    takes: "",
    about: "stop delivering a partition or a queue; its messages wait, in order",
    flags: pauseFlags(),
    read: (words) => ({ name: "pause", ...pausedOf(words, "pause") }),
  },
  resume: {
    takes: "",
    about: "deliver it again",
    flags: pauseFlags(),
    read: (words) => ({ name: "resume", ...pausedOf(words, "resume") }),
  },
  repartition: {
    takes: "",
    about: "change the number of partitions; every process must be stopped, the queue drained",
    flags: {
      queue: { value: "QUEUE", help: "a queue by its name or kind, or all: one count is configured for all" },
      count: { value: "N", help: `a power of two from 1 to ${maxPartitions}` },
      actor: actorFlag,
    },
    read: (words) => {
      const queue = words.values.get("queue");
      const text = words.values.get("count");
      if (queue === undefined) throw new UsageError("repartition needs --queue QUEUE or --queue all");
      if (text === undefined) throw new UsageError("repartition needs --count N");
      const count = readInt("--count", text, 1, maxPartitions);
      if (!isPartitionCount(count)) {
        throw new UsageError(`--count must be a power of two from 1 to ${maxPartitions}, not ${count}`);
      }
      return { name: "repartition", queue, count, actor: actorOf(words) };
    },
  },
};

function changeFlags(): Readonly<Record<string, Flag>> {
  return {
    ...scopeFlags,
    all: { help: "all pending dead letters" },
    limit: { value: "N", help: "at most so many, oldest first" },
    "dry-run": { help: "only tell how many" },
    actor: actorFlag,
  };
}

function pauseFlags(): Readonly<Record<string, Flag>> {
  return {
    queue: queueFlag,
    partition: { value: "ID", help: "its id, as logs and status show it" },
    actor: actorFlag,
  };
}

const limitOf = ({ values }: Words, max: number): number | undefined => {
  const text = values.get("limit");
  return text === undefined ? undefined : readInt("--limit", text, 1, max);
};

const filterOf = ({ values }: Words): DeadFilter => {
  const tenantId = values.get("tenant");
  if (tenantId !== undefined && !isUuid(tenantId)) {
    throw new UsageError(`--tenant must be a UUID, not ${shown(tenantId)}`);
  }
  const partition = values.get("partition");
  const status = values.get("status");
  return {
    queue: values.get("queue"),
    kind: values.get("kind"),
    fingerprint: values.get("fingerprint"),
    tenantId: tenantId?.toLowerCase(),
    partitionId: partition === undefined ? undefined : readInt("--partition", partition, 1, maxInt),
    status: status === undefined ? undefined : readChoice("--status", status, [...deadStatuses, "all"]),
  };
};

const idsOf = (rest: readonly string[]): bigint[] =>
  rest.map((text) => BigInt(readInt("ID", text, 1, Number.MAX_SAFE_INTEGER)));

const changeOf = (words: Words, name: string): { selection: Selection; dryRun: boolean; actor: string } => {
  const { switches, values } = words;
  const dryRun = switches.has("dry-run");
  const actor = actorOf(words);
  const scoped = Object.keys(scopeFlags).filter((flag) => values.has(flag));
  const ids = idsOf(words.rest);
  if (ids.length > 0) {
    const beside = [
      ...scoped,
      ...["all"].filter((flag) => switches.has(flag)),
      ...["limit"].filter((flag) => values.has(flag)),
    ];
    if (beside.length > 0) throw new UsageError(`--${beside[0]} makes no sense beside IDs`);
    return { selection: { ids }, dryRun, actor };
  }
  if (scoped.length === 0 && !switches.has("all")) {
    throw new UsageError(`${name} needs IDs, a flag that says which, or --all`);
  }
  const limit = limitOf(words, Number.MAX_SAFE_INTEGER) ?? Number.MAX_SAFE_INTEGER;
  return { selection: { filter: filterOf(words), limit }, dryRun, actor };
};

const pausedOf = (words: Words, name: string) => {
  const queue = words.values.get("queue");
  const partition = words.values.get("partition");
  if ((queue === undefined) === (partition === undefined)) {
    throw new UsageError(`${name} needs either --partition ID or --queue QUEUE`);
  }
  const partitionId = partition === undefined ? undefined : readInt("--partition", partition, 1, maxInt);
  return { queue, partitionId, actor: actorOf(words) };
};
