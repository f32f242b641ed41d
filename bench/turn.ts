import type { Scenario } from "../packages/simulator/src/index.ts";
import { createChats, send } from "./harness/client.ts";
import { digits, type Machine, rounded } from "./harness/measure.ts";
import { countRoundTrips } from "./harness/round-trips.ts";
import { type CpuSplit, type Stack, type User, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const ROUNDS = 3;
const ROUND_MS = 4_000;
const WARM_UP_MS = 4_000;
const DELTAS = 20;

const answer: Scenario = { repeat: { count: DELTAS, bytes: 4, interval_ms: 0 } };

interface Chat {
  readonly chatId: string;
  readonly user: User;
}

interface Round {
  readonly turns: number;
  readonly seconds: number;
  /** ms from connecting to the closed connection behind `done`. */
  readonly latencies: readonly number[];
  readonly cpu: CpuSplit;
  readonly machine: Machine;
}

/** Every chat asks again as soon as its answer is complete, until the time is over. */
const playRound = async (stack: Stack, chats: readonly Chat[], ms: number): Promise<Round> => {
  const latencies: number[] = [];
  const cpu = stack.cpu();
  const machine = stack.machine();
  const begin = performance.now();
  const ask = async (chat: Chat): Promise<void> => {
    while (performance.now() - begin < ms) {
      const at = performance.now();
      const text = await send({ port: stack.serverPort, ...chat }).finished;
      latencies.push(performance.now() - at);
      const deltas = text.split("event: delta").length - 1;
      if (deltas !== DELTAS) throw new Error(`${deltas} deltas instead of ${DELTAS}`);
    }
  };
  await Promise.all(chats.map(ask));
  return {
    turns: latencies.length,
    seconds: (performance.now() - begin) / 1_000,
    latencies,
    cpu: cpu(),
    machine: machine(),
  };
};

const perTurn = (rounds: readonly Round[]): Record<keyof CpuSplit, number> => {
  const turns = rounds.reduce((sum, round) => sum + round.turns, 0);
  const of = (part: keyof CpuSplit): number =>
    digits(rounds.reduce((sum, round) => sum + round.cpu[part], 0) / turns);
  return { server: of("server"), postgres: of("postgres"), provider: of("provider"), client: of("client") };
};

const view = (rounds: readonly Round[]): object => ({
  turns_per_second: rounded(summarise(rounds.map(({ turns, seconds }) => turns / seconds))),
  latency_ms: rounded(summarise(rounds.flatMap(({ latencies }) => latencies))),
  cpu_ms_per_turn: perTurn(rounds),
  machine: rounds.map(({ machine }) => machine),
});

/**
 * Whole turns, durable (fsync on), with quota, usage and audit events, against a provider that answers
 * at once with 20 deltas: per second at 1, 16 and 64 chats of as many users, and at 64 chats of one
 * user, whose turns wait for each other's locks; CPU by process; round trips of one turn.
 */
export const run = async (): Promise<object> => {
  const roundTrips = await countRoundTrips();
  return withStack({ users: 64 }, async (stack) => {
    await stack.setAnswer(answer);
    const many = await createChats(stack, 64);
    const alone = await createChats({ ...stack, users: stack.users.slice(0, 1) }, 64);
    const sizes = {
      chats_1: many.slice(0, 1),
      chats_16: many.slice(0, 16),
      chats_64: many,
      one_user_64: alone,
    };
    await playRound(stack, many, WARM_UP_MS);
    const rounds: Record<string, Round[]> = {};
    // In turns, so that a busy moment of the machine does not hit one size alone.
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [name, chats] of Object.entries(sizes)) {
        rounds[name] = [...(rounds[name] ?? []), await playRound(stack, chats, ROUND_MS)];
      }
    }
    return {
      round_trips: roundTrips,
      ...Object.fromEntries(Object.entries(rounds).map(([name, all]) => [name, view(all)])),
    };
  });
};
