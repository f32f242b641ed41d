import { randomUUID } from "node:crypto";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { callApi, eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { type OpenedStream, openStream, textOf, type WireEvent } from "../support/stream.ts";
import { addWitness } from "./support.ts";

const runs = 180;
const concurrency = 12;
const victims = 4;
const turnsPerVictim = 5;

const pieces = Array.from({ length: 30 }, (_, at) => `word ${at} `);
const answer = (delayMs: number) => ({
  events: [
    ...pieces.slice(0, 10).map((text) => ({ text })),
    { tool: "web_search", phase: "start" } as const,
    { tool: "web_search", phase: "done" } as const,
    ...pieces.slice(10).map((text) => ({ text })),
  ],
  event_delay_ms: delayMs,
  citations: [
    { type: "url_citation", url: "https://example.com/a", title: "A", start_index: 0, end_index: 4 },
  ],
});

const quota = { web_search_daily_quota: 10_000 };

let database: TestDatabase;
let simulator: Simulator;
/** Runs the watchdog and delivers usage; outlives everything. */
let keeper: TestApp;
let second: TestApp;
const started: ServerProcess[] = [];
beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 30 });
  await addWitness(database.db);
  simulator = await startSimulator();
  const shared = { database, simulator };
  const config = {
    quota,
    orphan_watchdog: { scan_interval_secs: 1 },
    instance_lease_secs: 15,
    plugins: { usage: { type: "postgres" } },
  };
  keeper = await startTestApp({ ...shared, config });
  second = await startTestApp({ ...shared, config: { role: "api", quota } });
});
afterAll(async () => {
  await Promise.all(started.map((process) => process.kill()));
  await second.close();
  await keeper.close();
  await simulator.close();
  await database.drop();
});

type Random = () => number;

/** Numbers in [0, 1), the same for the same seed. */
const randomOf = (seed: number): Random => {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
};

interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

const headers = { authorization: `Bearer ${callers.ann.token}` };

const send = async (base: string): Promise<Turn & { stream: OpenedStream }> => {
  const chatId = (await callApi(`${base}/chats`, "POST", { body: {} })).body.id;
  const requestId = randomUUID();
  const stream = await openStream(`${base}/chats/${chatId}/messages:stream`, {
    headers,
    body: {
      content: "go",
      request_id: requestId,
      on_disconnect: "continue",
      web_search: { enabled: true },
    },
  });
  if (stream.status !== 200) throw new Error(`refused: ${JSON.stringify(await stream.problem())}`);
  return { chatId, requestId, stream };
};

const resume = (base: string, { chatId, requestId }: Turn, lastEventId: string | null) =>
  openStream(`${base}/chats/${chatId}/turns/${requestId}/stream`, {
    method: "GET",
    headers: lastEventId === null ? headers : { ...headers, "last-event-id": lastEventId },
  });

/** A server as its client sees it: null once it is gone. */
type Base = () => string | null;

/**
 * Reads a turn to its end as a client with a bad connection does: leaves after some events or some time,
 * comes back anywhere with the last id it saw. Returns all it got but beginnings and pings.
 */
const readOn = async (
  turn: Turn & { readonly stream: OpenedStream },
  random: Random,
  bases: readonly Base[],
): Promise<readonly WireEvent[]> => {
  const got: WireEvent[] = [];
  let { stream } = turn;
  for (;;) {
    const enough = random() < 0.2 ? Number.POSITIVE_INFINITY : Math.floor(random() * 6);
    const tired = setTimeout(() => stream.disconnect(), random() < 0.3 ? random() * 300 : 60_000);
    for (let count = 0; count < enough; count += 1) {
      const event = await stream.next();
      if (event === undefined) break;
      if (event.event !== "stream_started" && event.event !== "ping") got.push(event);
      if (event.event === "done" || event.event === "error") {
        clearTimeout(tired);
        return got;
      }
    }
    clearTimeout(tired);
    stream.disconnect();
    if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, random() * 100));
    stream = await anywhere(turn, random, bases, got.at(-1)?.id ?? null);
  }
};

const anywhere = async (
  turn: Turn,
  random: Random,
  bases: readonly Base[],
  lastEventId: string | null,
): Promise<OpenedStream> => {
  for (;;) {
    const base = bases[Math.floor(random() * bases.length)]?.() ?? null;
    const stream = base === null ? null : await resume(base, turn, lastEventId).catch(() => null);
    if (stream?.status === 200) return stream;
    if (stream !== null) throw new Error(`refused: ${JSON.stringify(await stream.problem())}`);
  }
};

/** Nothing twice, nothing lost, and all of it in the stored message. Returns the turn's end. */
const expectWhole = async (turn: Turn, got: readonly WireEvent[], run: string): Promise<string> => {
  expect(
    got.map(({ id }) => id),
    run,
  ).toEqual(got.map((_, at) => String(at + 1)));
  const { body } = await keeper.call("GET", `/chats/${turn.chatId}/messages`);
  const stored = body.items.find((item: { role: string }) => item.role === "assistant")?.content ?? "";
  expect(textOf(got), run).toBe(stored);
  const again = await (await resume(second.base, turn, null)).rest();
  const withoutWarnings = got.map(({ data: { quota_warnings: _, ...data }, ...event }) => ({
    ...event,
    data,
  }));
  expect(again.slice(1), run).toEqual(withoutWarnings);
  const end = got.at(-1);
  return end?.event === "error" ? `error ${String(end.data["code"])}` : String(end?.event);
};

const fixed = (base: string): Base => {
  return () => base;
};

describe("what a client gets over all its connections is the stored answer (turns.md §16.2)", () => {
  test(`in ${runs} runs with random disconnects`, async () => {
    simulator.setDefault(answer(15));
    const bases = [fixed(keeper.base), fixed(second.base)];
    let next = 1;
    const worker = async (): Promise<void> => {
      for (let seed = next++; seed <= runs; seed = next++) {
        const random = randomOf(seed);
        const turn = await send(random() < 0.5 ? keeper.base : second.base);
        const got = await readOn(turn, random, bases);
        expect(await expectWhole(turn, got, `seed ${seed}`)).toBe("done");
        expect(textOf(got)).toBe(pieces.join(""));
        expect(got.filter(({ event }) => event === "tool")).toHaveLength(2);
        expect(got.filter(({ event }) => event === "citations")).toHaveLength(1);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
  }, 60_000);

  test(`in ${victims * turnsPerVictim} runs whose process is killed`, async () => {
    simulator.setDefault(answer(40));
    const ends = await Promise.all(
      Array.from({ length: victims }, (_, at) => killOne(randomOf(1_000 + at), 1_000 + at)),
    );
    const requestIds = ends.flat().map(({ requestId }) => requestId);
    expect(new Set(ends.flat().map(({ end }) => end))).toEqual(new Set(["error cancelled"]));
    const usage = async () =>
      (
        await database.db.query(
          `select billing_outcome, event ->> 'settlement_method' as method, count(*)::int
           from usage_events
           where event ->> 'request_id' = any($1)
           group by 1, 2`,
          [requestIds],
        )
      ).rows;
    await eventually(async () => (await usage())[0]?.["count"] === requestIds.length);
    expect(await usage()).toEqual([
      { billing_outcome: "aborted", method: "estimated", count: requestIds.length },
    ]);
    const { rowCount } = await database.db.query("select from quota_usage where reserved_credits_micro <> 0");
    expect(rowCount).toBe(0);
  }, 60_000);
});

/** Turns of one process, which is killed in the middle of them. */
const killOne = async (random: Random, seed: number): Promise<{ requestId: string; end: string }[]> => {
  const victim = await startServerProcess({
    databaseUrl: database.url,
    simulatorPort: simulator.port,
    config: { role: "api", quota, database: { max_connections: 5 } },
  });
  started.push(victim);
  let alive = true;
  const bases: Base[] = [fixed(keeper.base), fixed(second.base), () => (alive ? victim.base : null)];
  const turns = await Promise.all(Array.from({ length: turnsPerVictim }, () => send(victim.base)));
  const readings = turns.map((turn, at) => readOn(turn, randomOf(seed * 100 + at), bases));
  // All of them have said something, which the log of none may lose.
  const requestIds = turns.map(({ requestId }) => requestId);
  await eventually(async () => {
    const { rows } = await database.db.query<{ count: number }>(
      `select count(distinct t.id)::int as count
       from turn_events e join chat_turns t on t.id = e.turn_id
       where t.request_id = any($1) and e.event = 'delta'`,
      [requestIds],
    );
    return rows[0]?.count === turnsPerVictim;
  });
  await new Promise((resolve) => setTimeout(resolve, random() * 600));
  await victim.kill();
  alive = false;
  await ageOwnersOf(requestIds);
  const got = await Promise.all(readings);
  return Promise.all(
    turns.map(async (turn, at) => ({
      requestId: turn.requestId,
      end: await expectWhole(turn, got[at] ?? [], `seed ${seed}, turn ${at}`),
    })),
  );
};

/** Lets the time pass after which these turns are a dead process's. */
const ageOwnersOf = async (requestIds: readonly string[]): Promise<void> => {
  await database.db.query(
    `update app_instances
     set last_seen_at = now() - interval '1 hour'
     where id in (select owner_instance_id from chat_turns where request_id = any($1))`,
    [requestIds],
  );
  await database.db.query(
    "update chat_turns set last_progress_at = now() - interval '40 seconds' where request_id = any($1)",
    [requestIds],
  );
};
