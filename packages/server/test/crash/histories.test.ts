import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { finalizeOrphans } from "../../src/turns/orphans.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import type { OpenedStream } from "../support/stream.ts";
import { readBooks, usageQueueIsEmpty } from "./books.ts";
import { type BegunTurn, begin, finish, type PlannedTurn, plannedTurn, type Stage } from "./history.ts";
import { limits, orphanDeps } from "./orphans.ts";
import { addWitness, ageDeadProcesses, createGround, type Ground, newChat, send } from "./support.ts";

/** turns.md §23.4–6, quota.md §16: whatever happens to turns, the books are those of their usage events. */

const seed = 20_260_301;

/** Every run has users of its own, so that a history found wrong can be made smaller. */
const users: readonly Caller[] = Array.from({ length: 600 }, (_, at) => ({
  token: `token-of-user-${at}`,
  tenantId: callers.ann.tenantId,
  userId: randomUUID(),
}));

const tokens = users.map(({ token, tenantId, userId }) => ({ token, tenant_id: tenantId, user_id: userId }));

/** Two premium reserves a day, and a few of the others: some are downgraded, some refused. */
const tightLimits = {
  default_premium_limits: { limit_daily_credits_micro: 260_000 },
  default_standard_limits: { limit_daily_credits_micro: 300_000 },
};

describe("turns of one process, crashes played by SQL", () => {
  let app: TestApp;
  let dir: string;
  let usageFile: string;
  let stage: Stage;
  let nextUser = 0;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "mini-chat-histories-"));
    usageFile = join(dir, "usage.jsonl");
    app = await startTestApp({
      config: {
        auth: { tokens },
        orphan_watchdog: { enabled: false },
        plugins: {
          usage: { type: "file", path: usageFile },
          model_policy: { static: tightLimits },
        },
        // Failures are planned here, and every call has to reach its provider.
        providers: { sim: { breaker: { failure_threshold: 10_000 } } },
        log: { level: "error" },
      },
    });
    const deps = await orphanDeps(app.database.db);
    await addWitness(app.database.db);
    stage = {
      server: app,
      db: app.database.db,
      simulator: app.simulator,
      scan: () => finalizeOrphans(deps, limits, new AbortController().signal),
    };
  });
  afterAll(async () => {
    await app.close();
    await rm(dir, { recursive: true });
  });

  const play = async (history: readonly PlannedTurn[]): Promise<readonly Caller[]> => {
    const pair = users.slice(nextUser, nextUser + 2);
    nextUser = (nextUser + 2) % users.length;
    const running: { readonly turn: BegunTurn; readonly until: number }[] = [];
    const finishDue = async (at: number): Promise<void> => {
      const due = running.filter(({ until }) => until <= at);
      for (const one of due) running.splice(running.indexOf(one), 1);
      await Promise.all(due.map(({ turn }) => finish(stage, turn)));
    };
    for (const [at, planned] of history.entries()) {
      const caller = pair[planned.user];
      if (caller === undefined) throw new Error("no user left");
      const turn = await begin(stage, caller, planned);
      if (turn !== null) running.push({ turn, until: at + planned.outlasts });
      await finishDue(at);
    }
    await finishDue(Number.POSITIVE_INFINITY);
    return pair;
  };

  test("after any history nothing is reserved, and what is spent is what was published", async () => {
    let last: Promise<unknown> = Promise.resolve();
    await fc.assert(
      fc.asyncProperty(
        fc.array(plannedTurn, { minLength: 1, maxLength: 10, size: "max" }),
        async (history) => {
          const played = play(history);
          last = played;
          const pair = await played;
          const mine = ({ row }: { row: string }) => pair.some(({ userId }) => row.includes(userId));
          const { stored, due, events } = await readBooks(stage.db, usageFile);
          expect(stored.filter(mine)).toEqual(due.filter(mine));
          const turns = await stage.db.query("select from chat_turns where requester_user_id = any ($1)", [
            pair.map(({ userId }) => userId),
          ]);
          const told = events.filter((event) => pair.some(({ userId }) => event["user_id"] === userId));
          expect(told).toHaveLength(turns.rowCount);
        },
      ),
      { seed, numRuns: 60, interruptAfterTimeLimit: 20_000 },
    );
    // A history the time limit came upon is played to its end all the same.
    await last;
    await eventually(() => usageQueueIsEmpty(stage.db));
    const { stored, due, events } = await readBooks(stage.db, usageFile);
    expect(stored).toEqual(due);
    const kinds = events.map((event) =>
      [event["terminal_state"], event["billing_outcome"], event["settlement_method"]].join(" "),
    );
    // The histories have had every end there is but those before the provider was called.
    expect(new Set(kinds)).toEqual(
      new Set([
        "completed completed actual",
        "completed completed estimated",
        "failed failed actual",
        "failed failed estimated",
        "failed aborted estimated",
        "cancelled aborted estimated",
      ]),
    );
  });
});

describe("turns of processes that are killed", () => {
  let ground: Ground;
  afterEach(async () => {
    await ground.clear();
  });

  /** How far a turn has come when its process is killed. */
  const fates = ["being sent", "waiting for its provider", "being ended", "ended"] as const;
  type Fate = (typeof fates)[number];

  const killWith = async (history: readonly Fate[]): Promise<void> => {
    const { simulator } = ground;
    const server = await ground.start();
    const sent: { readonly fate: Fate; readonly stream: OpenedStream }[] = [];
    for (const fate of history.filter((one) => one !== "being sent")) {
      simulator.enqueue({ events: [{ text: "a" }, { wait_for: fate }, { text: "b" }] });
      const stream = await send(server, await newChat(server));
      await stream.until("delta");
      sent.push({ fate, stream });
    }
    const chats = await Promise.all(
      history.filter((fate) => fate === "being sent").map(() => newChat(server)),
    );
    simulator.open("ended");
    await Promise.all(sent.filter(({ fate }) => fate === "ended").map(({ stream }) => stream.rest()));
    simulator.open("being ended");
    const late = chats.map((chatId) => send(server, chatId).catch(() => null));
    await server.kill();
    await Promise.all(late);
    simulator.reset();
  };

  test("after restarts the books are whole again", async () => {
    ground = await createGround();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...fates), { minLength: 4, maxLength: 8, size: "max" }),
        async (history) => {
          await killWith(history);
          await ageDeadProcesses(ground.db);
          const next = await ground.start();
          await eventually(
            async () =>
              (await ground.db.query("select from chat_turns where state = 'running'")).rowCount === 0,
          );
          const { stored, due, events } = await ground.books();
          expect(stored).toEqual(due);
          expect(events).toHaveLength((await ground.db.query("select from chat_turns")).rowCount);
          await next.kill();
          await ageDeadProcesses(ground.db);
        },
      ),
      { seed, numRuns: 4, interruptAfterTimeLimit: 25_000 },
    );
  });
});
