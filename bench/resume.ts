import { randomUUID } from "node:crypto";
import { request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startChild } from "./harness/child.ts";
import { createChats, send } from "./harness/client.ts";
import { digits, rounded } from "./harness/measure.ts";
import { type Stack, serverScript, type User, withStack } from "./harness/stack.ts";
import { type Summary, scaled, summarise } from "./support.ts";

const ROUNDS = 4;
const ROUND_MS = 2_500;
const WARM_UP_MS = 2_000;
const DELTAS = 20;
const SAMPLES = 200;
const RECONNECTS = 200;
const READERS = 20;
const SPREAD_MS = 1_000;

interface Chat {
  readonly chatId: string;
  readonly user: User;
}

const modes = ["cancel", "continue"] as const;
type Mode = (typeof modes)[number];

const optionsOf = (stack: Stack, chat: Chat, mode: Mode) => ({
  port: stack.serverPort,
  ...chat,
  ...(mode === "continue" ? { more: { on_disconnect: mode } } : {}),
});

interface Pace {
  readonly perSecond: number;
  /** CPU time of the server and PostgreSQL, ms: what others do on the machine moves it least. */
  readonly cpuPerTurn: number;
}

/** Whole turns of one kind, every chat asking again at once. */
const playTurns = async (stack: Stack, chats: readonly Chat[], mode: Mode, ms: number): Promise<Pace> => {
  let turns = 0;
  const cpu = stack.cpu();
  const begin = performance.now();
  const ask = async (chat: Chat): Promise<void> => {
    while (performance.now() - begin < ms) {
      const text = await send(optionsOf(stack, chat, mode)).finished;
      if ((text.includes("\nid: ") || text.startsWith("id: ")) !== (mode === "continue"))
        throw new Error(text);
      turns += 1;
    }
  };
  await Promise.all(chats.map(ask));
  const { server, postgres } = cpu();
  return {
    perSecond: turns / ((performance.now() - begin) / 1_000),
    cpuPerTurn: (server + postgres) / turns,
  };
};

/** Both kinds in turns, so that a busy moment of the machine does not hit one alone. */
const compareTurns = async (stack: Stack, chats: readonly Chat[]): Promise<object> => {
  const found: Record<Mode, Pace[]> = { cancel: [], continue: [] };
  const machine = stack.machine();
  for (let round = 0; round < scaled(ROUNDS); round += 1) {
    for (const mode of round % 2 === 0 ? modes : modes.toReversed()) {
      found[mode].push(await playTurns(stack, chats, mode, scaled(ROUND_MS, 200)));
    }
  }
  const of = (mode: Mode, part: keyof Pace): Summary =>
    rounded(summarise(found[mode].map((pace) => pace[part])));
  const lost = found.cancel.map(
    ({ perSecond }, at) => 100 * (1 - (found.continue[at]?.perSecond ?? 0) / perSecond),
  );
  return {
    turns_per_second: { cancel: of("cancel", "perSecond"), continue: of("continue", "perSecond") },
    lost_percent: rounded(summarise(lost)),
    cpu_ms_per_turn: { cancel: of("cancel", "cpuPerTurn"), continue: of("continue", "cpuPerTurn") },
    machine: machine(),
  };
};

/** ms from connecting to the first delta. */
const firstDelta = async (stack: Stack, chat: Chat, mode: Mode): Promise<number> => {
  const at = performance.now();
  let first = Number.NaN;
  const onBytes = (bytes: Buffer): void => {
    if (Number.isNaN(first) && bytes.includes("event: delta")) first = performance.now() - at;
  };
  await send({ ...optionsOf(stack, chat, mode), keep: false, onBytes }).finished;
  return first;
};

const compareFirstDeltas = async (stack: Stack, chats: readonly Chat[]): Promise<object> => {
  const found: Record<Mode, number[]> = { cancel: [], continue: [] };
  const machine = stack.machine();
  let left = scaled(SAMPLES);
  const worker = async (chat: Chat): Promise<void> => {
    while (left > 0) {
      left -= 1;
      for (const mode of left % 2 === 0 ? modes : modes.toReversed()) {
        // Beginnings spread over time, as they are when nobody waits for the other.
        if (chats.length > 1) await sleep(Math.random() * SPREAD_MS);
        found[mode].push(await firstDelta(stack, chat, mode));
      }
    }
  };
  await Promise.all(chats.map(worker));
  const [plain, logged] = [summarise(found.cancel), summarise(found.continue)];
  return {
    cancel_ms: rounded(plain),
    continue_ms: rounded(logged),
    added_ms: { p50: digits(logged.p50 - plain.p50), p95: digits(logged.p95 - plain.p95) },
    machine: machine(),
  };
};

interface Reading {
  readonly stop: () => void;
}

/** Reads the stream of a turn from an event on; `onEvent` gets the ids of the log's events. */
const readFrom = (
  port: number,
  chat: Chat,
  requestId: string,
  after: number,
  onEvent: (seq: number) => void,
): Reading => {
  const got = request(
    {
      port,
      host: "127.0.0.1",
      path: `/v1/chats/${chat.chatId}/turns/${requestId}/stream`,
      agent: false,
      headers: { authorization: `Bearer ${chat.user.token}`, "last-event-id": String(after) },
    },
    (response) => {
      response.setEncoding("utf8").on("data", (text: string) => {
        for (const [, seq] of text.matchAll(/^id: (\d+)$/gm)) onEvent(Number(seq));
      });
      response.on("error", () => {});
    },
  );
  got.on("error", () => {});
  got.end();
  return { stop: () => got.destroy() };
};

/** A turn under way, with the times at which its own client got each event. */
const openTurn = (stack: Stack, chat: Chat) => {
  const requestId = randomUUID();
  const seen = new Map<number, number>();
  const begun = Promise.withResolvers<void>();
  const opened = send({
    ...optionsOf(stack, chat, "continue"),
    requestId,
    keep: false,
    onBytes: (bytes) => {
      for (const [, seq] of bytes.toString("latin1").matchAll(/^id: (\d+)$/gm)) {
        seen.set(Number(seq), performance.now());
        if (seen.size > 2) begun.resolve();
      }
    },
  });
  return { requestId, seen, begun: begun.promise, ...opened };
};

/**
 * A client leaves in the middle of an answer and comes back 400 ms later, to another process: ms from
 * connecting to the first event it has missed.
 */
const reconnects = async (
  stack: Stack,
  otherPort: number,
  chats: readonly Chat[],
  count: number,
): Promise<number[]> => {
  const samples: number[] = [];
  let left = count;
  const worker = async (chat: Chat): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const turn = openTurn(stack, chat);
      await turn.begun;
      turn.socket.destroy();
      const after = Math.max(...turn.seen.keys());
      await sleep(400 + Math.random() * 100);
      const at = performance.now();
      const first = Promise.withResolvers<void>();
      const reading = readFrom(otherPort, chat, turn.requestId, after, (seq) => {
        if (seq === after + 1) samples.push(performance.now() - at);
        if (seq === after + 1) first.resolve();
      });
      await first.promise;
      reading.stop();
      await stopTurn(stack, chat, turn.requestId);
    }
  };
  await Promise.all(chats.slice(0, READERS).map(worker));
  return samples;
};

const stopTurn = async (stack: Stack, chat: Chat, requestId: string): Promise<void> => {
  const url = `http://127.0.0.1:${stack.serverPort}/v1/chats/${chat.chatId}/turns/${requestId}/cancel`;
  await fetch(url, { method: "POST", headers: { authorization: `Bearer ${chat.user.token}` } });
};

/** How far behind the turn's own client a reader in another process is, per event, ms. */
const followers = async (stack: Stack, otherPort: number, chats: readonly Chat[]): Promise<number[]> => {
  const samples: number[] = [];
  await Promise.all(
    chats.slice(0, READERS).map(async (chat) => {
      const turn = openTurn(stack, chat);
      await turn.begun;
      const read = new Map<number, number>();
      const reading = readFrom(otherPort, chat, turn.requestId, 0, (seq) => read.set(seq, performance.now()));
      await sleep(500);
      const from = Math.max(...turn.seen.keys()) + 1;
      await sleep(scaled(6_000, 1_000));
      reading.stop();
      turn.socket.destroy();
      await stopTurn(stack, chat, turn.requestId);
      for (const [seq, at] of read) {
        const live = turn.seen.get(seq);
        if (seq >= from && live !== undefined) samples.push(at - live);
      }
    }),
  );
  return samples;
};

/**
 * What keeping a log costs a turn and its first token, beside turns without one; how soon a client that
 * comes back to another process has what it missed, and how far behind it is from then on.
 */
export const run = (): Promise<object> =>
  withStack({ users: 64 }, async (stack) => {
    const chats = await createChats(stack, 64);
    const other = startChild(serverScript, ["serve", "--config", join(stack.dir, "config.json")], {
      log: join(stack.dir, "other.log"),
    });
    try {
      const [, otherPort] = await other.printed(/^\{.*"api":(\d+).*"msg":"ready"/m);
      await stack.setAnswer({ repeat: { count: DELTAS, bytes: 4, interval_ms: 0 } });
      for (const mode of modes) await playTurns(stack, chats, mode, scaled(WARM_UP_MS, 200));
      const turns = {
        chats_1: await compareTurns(stack, chats.slice(0, 1)),
        chats_64: await compareTurns(stack, chats),
      };
      const firstToken = { streams_1: await compareFirstDeltas(stack, chats.slice(0, 1)) };
      await stack.setAnswer({ repeat: { count: 15, bytes: 4, interval_ms: 50 } });
      const busy = { streams_30: await compareFirstDeltas(stack, chats.slice(0, 30)) };
      await stack.setAnswer({ repeat: { count: 100_000, bytes: 4, interval_ms: 50 } });
      const machine = stack.machine();
      await reconnects(stack, Number(otherPort), chats, 2 * READERS);
      const missed = await reconnects(stack, Number(otherPort), chats, scaled(RECONNECTS));
      const behind = await followers(stack, Number(otherPort), chats);
      return {
        turns,
        first_delta: { ...firstToken, ...busy },
        reconnect_to_first_missing_event_ms: rounded(summarise(missed)),
        reader_behind_client_ms: rounded(summarise(behind)),
        machine: machine(),
      };
    } finally {
      await other.stop();
    }
  });
