import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { isTransient } from "../db/tx.ts";
import type { SseWriter } from "../http/sse.ts";
import type { Logger } from "../telemetry/log.ts";
import type { RunningTurns } from "./cancellation.ts";
import { encodeEvent, type StreamEvent, StreamGrammar } from "./grammar.ts";
import { type LiveAttachments, liveCitations } from "./live-citations.ts";
import { readEventsAfter } from "./log-store.ts";
import type { LogReaders } from "./readers.ts";
import type { OpenStream } from "./relay.ts";

export interface FollowDeps {
  readonly db: Db;
  readonly logger: Logger;
  readonly readers: LogReaders;
  readonly running: RunningTurns;
  readonly liveAttachments: LiveAttachments;
  /** `streaming.sse_channel_capacity`: events read at once for a client that keeps up. */
  readonly channelCapacity: number;
}

/** What a reader follows. */
export interface FollowedTurn {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  /** The first event of the stream. */
  readonly started: StreamEvent;
  /** The place of the last event the client has. */
  readonly after: number;
}

const pollMs = 500;

const interrupted: StreamEvent = {
  event: "error",
  data: { code: "stream_interrupted", message: "The stream was interrupted; ask for the turn's status." },
};

/**
 * Plays a turn's log from a place on, then what is appended, to its end (turns.md §16.2). The reader owns
 * nothing of the turn: it holds no connection while it waits, reads no faster than its client takes, and
 * its leaving changes nothing. Resolves when the response is done with.
 */
export const followTurn = async (deps: FollowDeps, turn: FollowedTurn, open: OpenStream): Promise<void> => {
  const grammar = new StreamGrammar();
  const client = open(() => {
    if (grammar.acceptsPing) write(client, grammar, [{ event: "ping", data: {} }]);
    else client.comment();
  });
  const growth = watchGrowth(deps, turn.id);
  client.onClose(growth.stop);
  try {
    write(client, grammar, [turn.started]);
    await play(deps, turn, client, grammar, growth);
  } catch (error) {
    deps.logger.warn({ err: error, turn_id: turn.id }, "a reader's stream broke off");
    write(client, grammar, [interrupted]);
  } finally {
    growth.stop();
    client.end();
  }
};

/** False = the client is behind. */
const write = (client: SseWriter, grammar: StreamGrammar, events: readonly StreamEvent[]): boolean => {
  const frames = events.filter((event) => grammar.accept(event)).map((event) => encodeEvent(event));
  return frames.length === 0 || client.write(frames.join(""));
};

const play = async (
  deps: FollowDeps,
  turn: FollowedTurn,
  client: SseWriter,
  grammar: StreamGrammar,
  growth: Growth,
): Promise<void> => {
  let { after } = turn;
  while (!client.closed) {
    growth.reset();
    const found = await look(deps, turn, after);
    const events = found?.events ?? [];
    // A place is missing when the database server lost its last moments, or the log expired meanwhile.
    const broken = events.some(({ seq }, at) => seq !== after + 1 + at);
    if (broken) return void write(client, grammar, [interrupted]);
    after = events.at(-1)?.seq ?? after;
    if (!write(client, grammar, await stillTrue(deps, turn, events))) await client.drained();
    if (grammar.ended) return;
    if (events.length > 0) continue;
    // One snapshot: a turn that has ended has its end in the log, or none will come.
    if (found !== undefined && found?.state !== "running") return void write(client, grammar, [interrupted]);
    // A process that stops lets its readers go: without an end they come back, to another one.
    if (deps.running.stopped !== null && !deps.running.has(turn.id)) return;
    await growth.wait();
  }
};

/** The events as they may be told now: a file that was deleted since is cited no more (context.md §12.9). */
const stillTrue = async (
  deps: FollowDeps,
  turn: FollowedTurn,
  events: readonly StreamEvent[],
): Promise<readonly StreamEvent[]> => {
  const at = events.findIndex(({ event }) => event === "citations");
  const cited = events[at];
  if (cited?.event !== "citations") return events;
  const items = await liveCitations(deps.liveAttachments, turn, cited.data.items);
  return events.toSpliced(at, 1, ...(items.length > 0 ? [{ ...cited, data: { items } }] : []));
};

/** Undefined while the database is busy or away: the reader waits as the turn itself does. */
const look = async (
  deps: FollowDeps,
  turn: FollowedTurn,
  after: number,
): Promise<Awaited<ReturnType<typeof readEventsAfter>> | undefined> => {
  try {
    return await readEventsAfter(deps.db, turn, after, deps.channelCapacity);
  } catch (error) {
    if (!isTransient(error)) throw error;
    deps.logger.debug({ err: error, turn_id: turn.id }, "turn log not read, tried again");
    return undefined;
  }
};

interface Growth {
  /** From here on appends count. */
  reset(): void;
  /** Resolves after an append since the reset, at the next one, or when it is time to look anyway. */
  wait(): Promise<void>;
  readonly stop: () => void;
}

const watchGrowth = (deps: Pick<FollowDeps, "readers">, turnId: string): Growth => {
  let grown = false;
  let go = (): void => {};
  const wake = (): void => {
    grown = true;
    go();
  };
  const leave = deps.readers.enter(turnId, wake);
  return {
    reset: () => {
      grown = false;
    },
    wait: async () => {
      if (grown) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pollMs);
        go = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      // The owner may have begun to listen only now.
      if (!grown) deps.readers.announce(turnId);
    },
    stop: () => {
      leave();
      wake();
    },
  };
};
