import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import type { OpenedStream } from "../support/stream.ts";
import { mutate, type Op, turnsOf } from "./mutation-support.ts";

/** Whatever is asked of one turn at the same instant, of two processes: one wins, and only it has an effect. */

const rounds = 25;

let first: TestApp;
let second: TestApp;
beforeAll(async () => {
  const config = {
    role: "api",
    plugins: {
      model_policy: {
        static: {
          default_standard_limits: {
            limit_daily_credits_micro: 1_000_000_000,
            limit_monthly_credits_micro: 1_000_000_000,
          },
        },
      },
    },
  };
  first = await startTestApp({ config });
  second = await startTestApp({ config, database: first.database, simulator: first.simulator });
});
afterAll(async () => {
  await second.close();
  await first.close();
});

type Action = Op | "send";
interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

const act = (app: TestApp, action: Action, turn: Turn): Promise<OpenedStream> =>
  action === "send"
    ? app.send(turn.chatId, { content: "another", request_id: randomUUID() })
    : mutate(app, action, turn);

/** What may be answered to the one that comes second. */
const lost: Readonly<Record<Action, readonly string[]>> = {
  retry: ["409 not_latest_turn"],
  edit: ["409 not_latest_turn"],
  delete: ["409 not_latest_turn"],
  send: ["409 generation_in_progress"],
};

/** Everything that counts the effects of a user: turns and reserves held, audit and usage told. */
const effects = async (chatId: string) => {
  const { rows } = await first.db.query<{ reserved: bigint; held: bigint; told: string[] }>(
    `select
       (select coalesce(sum(reserved_credits_micro), 0)::bigint from quota_usage
        where period_type = 'daily' and bucket = 'total') as reserved,
       (select coalesce(sum(reserved_credits_micro), 0)::bigint from chat_turns
        where state = 'running') as held,
       (select coalesce(json_agg(payload::json ->> 'event_type' order by id), '[]'::json)
        from outbox_message
        where payload::json ->> 'chat_id' = $1 and payload::json ->> 'type' in ('mutation', 'delete')) as told`,
    [chatId],
  );
  return rows[0];
};

interface Race {
  readonly name: string;
  readonly actions: readonly Action[];
}

const races: readonly Race[] = [
  { name: "two retries", actions: ["retry", "retry"] },
  { name: "two edits", actions: ["edit", "edit"] },
  { name: "two deletes", actions: ["delete", "delete"] },
  { name: "a retry and a delete", actions: ["retry", "delete"] },
  { name: "a retry and an edit", actions: ["retry", "edit"] },
  { name: "an edit and a delete", actions: ["edit", "delete"] },
  { name: "an edit and a send", actions: ["edit", "send"] },
  { name: "a retry and a send", actions: ["retry", "send"] },
  {
    name: "eight of all kinds",
    actions: ["retry", "retry", "edit", "edit", "delete", "delete", "retry", "edit"],
  },
];

describe("§23.1, §23.17 at the same instant, to two processes", () => {
  test.each(races)("$name: exactly one wins", async ({ actions }) => {
    const winners = new Map<string, number>();
    for (let round = 0; round < rounds; round += 1) {
      const chatId = await first.createChat();
      const { requestId } = await first.ask(chatId, "hello");
      const gate = randomUUID();
      first.simulator.clearScenarios();
      first.simulator.setDefault({ events: [{ text: "x" }, { wait_for: gate }] });
      const streams = await Promise.all(
        actions.map((action, at) => act(at % 2 === 0 ? first : second, action, { chatId, requestId })),
      );
      const won = streams.flatMap(({ status }, at) => (status < 300 ? [actions[at] as Action] : []));
      expect(won).toHaveLength(1);
      const [winner = "send"] = won;
      winners.set(winner, (winners.get(winner) ?? 0) + 1);
      for (const [at, stream] of streams.entries()) {
        const { status, code } = stream.status < 300 ? { status: 0, code: "" } : await stream.problem();
        if (status !== 0) expect(lost[actions[at] as Action]).toContain(`${status} ${code}`);
      }
      // While the winner's turn runs the books hold its reserve and no other.
      const held = await effects(chatId);
      expect(held?.reserved).toBe(held?.held);
      expect(held?.told).toEqual(winner === "send" ? [] : [`turn_${winner}`]);
      const turns = await turnsOf(first, chatId);
      const live = turns.filter(({ deleted }) => !deleted);
      expect([turns.length, live.length]).toEqual(
        { retry: [2, 1], edit: [2, 1], delete: [1, 0], send: [2, 2] }[winner],
      );
      first.simulator.open(gate);
      first.simulator.setDefault({});
      await Promise.all(streams.map((stream) => stream.rest()));
      await eventually(async () => (await effects(chatId))?.reserved === 0n);
    }
    expect([...winners.values()].reduce((sum, count) => sum + count, 0)).toBe(rounds);
  });

  test("a delete and a send: the send wins, or both do one after the other", async () => {
    const seen = new Set<string>();
    for (let round = 0; round < rounds; round += 1) {
      const chatId = await first.createChat();
      const { requestId } = await first.ask(chatId, "hello");
      const [removed, sent] = await Promise.all([
        act(first, "delete", { chatId, requestId }),
        act(second, "send", { chatId, requestId }),
      ]);
      expect(sent.status).toBe(200);
      await sent.rest();
      const live = (await turnsOf(first, chatId)).filter(({ deleted }) => !deleted);
      if (removed.status === 204) expect(live).toHaveLength(1);
      else {
        expect(await removed.problem()).toMatchObject({ status: 409, code: "not_latest_turn" });
        expect(live).toHaveLength(2);
      }
      seen.add(String(removed.status));
    }
    expect(seen.size).toBeGreaterThan(0);
  });

  test("retry after retry without a pause: each has one successor, in a line", async () => {
    const chatId = await first.createChat();
    let { requestId } = await first.ask(chatId, "hello");
    for (let round = 0; round < 10; round += 1) {
      const streams = await Promise.all(
        [first, second, first].map((app) => mutate(app, "retry", { chatId, requestId })),
      );
      const all = await Promise.all(streams.map((stream) => stream.rest()));
      const started = all.flatMap((events) => events.filter(({ event }) => event === "stream_started"));
      expect(started).toHaveLength(1);
      requestId = String(started[0]?.data["request_id"]);
    }
    const turns = await turnsOf(first, chatId);
    expect(turns).toHaveLength(11);
    for (const [at, turn] of turns.entries()) expect(turn.replacedBy).toBe(turns[at + 1]?.requestId ?? null);
    expect((await effects(chatId))?.told).toHaveLength(10);
  });

  test("no deadlock was met", async () => {
    await first.db.query("select pg_stat_force_next_flush()");
    const { rows } = await first.db.query<{ deadlocks: bigint }>(
      "select deadlocks from pg_stat_database where datname = current_database()",
    );
    expect(rows[0]?.deadlocks).toBe(0n);
  });
});
