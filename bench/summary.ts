import { startApp } from "../packages/server/src/app.ts";
import { parseConfig } from "../packages/server/src/config/schema.ts";
import { createLogger } from "../packages/server/src/telemetry/log.ts";
import { startSimulator } from "../packages/simulator/src/index.ts";
import { createChats, send } from "./harness/client.ts";
import { digits, rounded } from "./harness/measure.ts";
import { benchConfig, type Stack, type User, withDatabase, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const ROUNDS = 3;
const ROUND_MS = 4_000;
const WARM_UP_MS = 4_000;
const CHATS = 16;
const SUMMARIES = 40;

const user: User = {
  token: "token-0",
  tenantId: "aaaaaaaa-0000-4000-8000-000000000001",
  userId: "a0000000-0000-4000-8000-00000000000a",
};

/**
 * One summary after the other with an application in this process: from the end of the provider's answer
 * to the line that tells of the commit, and the statements of the last one without those of the queues.
 */
const measureOne = (): Promise<object> =>
  withDatabase(async (database, dir) => {
    const simulator = await startSimulator();
    const place = { databaseUrl: database.url, providerPort: simulator.port, dir };
    const config = parseConfig(benchConfig(place, [user]) as object);
    let told = (): void => {};
    const write = (line: string): void => {
      if (line.includes('"msg":"thread summary"')) told();
    };
    const fields = { version: "bench", instance_id: "bench", role: config.role };
    const logger = createLogger(config.log, fields, { write });
    const app = await startApp({ config, logger, given: { secrets: () => null } });
    try {
      const port = app.api?.port ?? 0;
      const times: number[] = [];
      let statements: string[] = [];
      for (let at = 0; at < SUMMARIES; at += 1) {
        const [chat] = await createChats({ serverPort: port, users: [user] }, 1);
        if (chat === undefined) throw new Error("no chat");
        const gate = `summary-${at}`;
        simulator.setSummary({ gate, events: [{ text: "<summary>of seven turns</summary>" }] });
        for (let turn = 1; turn <= 7; turn += 1) await send({ port, ...chat }).finished;
        await simulator.arrived(gate);
        const seen: string[] = [];
        app.db.onStatement = (name) => seen.push(name);
        const begin = performance.now();
        const committed = new Promise<void>((resolve) => {
          told = resolve;
        });
        simulator.open(gate);
        await committed;
        times.push(performance.now() - begin);
        app.db.onStatement = undefined;
        statements = seen.filter((name) => !/^outbox_(?:claim|settle|horizon|next_due|depth)/.test(name));
      }
      return { answer_to_commit_ms: rounded(summarise(times)), statements };
    } finally {
      await app.stop();
      await simulator.close();
    }
  });

/** Every chat asks again as soon as its answer is complete; turns per second of each round. */
const measureTurns = async (stack: Stack): Promise<object> => {
  await stack.setAnswer({ repeat: { count: 20, bytes: 4, interval_ms: 0 } });
  const chats = await createChats(stack, CHATS);
  const play = async (ms: number): Promise<{ rate: number; latencies: number[] }> => {
    const begin = performance.now();
    const latencies: number[] = [];
    const ask = async (chat: (typeof chats)[number]): Promise<void> => {
      while (performance.now() - begin < ms) {
        const at = performance.now();
        await send({ port: stack.serverPort, ...chat }).finished;
        latencies.push(performance.now() - at);
      }
    };
    await Promise.all(chats.map(ask));
    return { rate: (latencies.length * 1_000) / (performance.now() - begin), latencies };
  };
  await play(WARM_UP_MS);
  const machine = stack.machine();
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) rounds.push(await play(ROUND_MS));
  return {
    turns_per_second: rounded(summarise(rounds.map(({ rate }) => rate))),
    latency_ms: rounded(summarise(rounds.flatMap(({ latencies }) => latencies))),
    machine: machine(),
  };
};

/**
 * A summary by itself, and turns per second at 16 chats that talk without end, where about every fourth
 * turn makes a summary due, with summaries and without.
 */
export const run = async (): Promise<object> => {
  const one = await measureOne();
  const off = { thread_summary_worker: { enabled: false } };
  const without = await withStack({ users: CHATS, config: off }, measureTurns);
  const with_ = await withStack({ users: CHATS }, measureTurns);
  const rate = (of: object): number =>
    Number(Reflect.get(Reflect.get(of, "turns_per_second") as object, "median"));
  return {
    one,
    turns_without: without,
    turns_with: with_,
    with_to_without: digits(rate(with_) / rate(without), 2),
  };
};
