import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../../src/config/schema.ts";
import type { Db } from "../../src/db/pool.ts";
import { createOutbox } from "../../src/outbox/outbox.ts";
import type { LlmProvider, ProviderEvent } from "../../src/providers/contract.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { RunningTurns } from "../../src/turns/cancellation.ts";
import { runTurn } from "../../src/turns/run.ts";
import type { RunningTurn } from "../../src/turns/running.ts";
import { insertRunningTurn, model, newActor, newChat } from "../quota/support.ts";
import { testConfigTree } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const text = (content: string): ProviderEvent => ({ type: "delta", kind: "text", content });
const late = "late ".repeat(1_000);

/** Says a little, then a lot and that this was all. */
const provider = () => {
  const { promise: ended, resolve: onEnded } = Promise.withResolvers<void>();
  const say = async function* (): AsyncGenerator<readonly ProviderEvent[]> {
    try {
      yield [text("first")];
      yield [text(late)];
      yield [{ type: "terminal", outcome: { kind: "completed", usage: null, citations: [] } }];
    } finally {
      onEnded();
    }
  };
  const adapter: LlmProvider = {
    stream: () => Object.assign(say(), { closed: Promise.resolve() }),
    complete: () => Promise.reject(new Error("not asked")),
  };
  return { adapter, ended };
};

/** A database whose second append to a log takes until the provider has ended. */
const slowLog = (db: Db, ended: Promise<void>): Db => {
  let appends = 0;
  return Object.assign(Object.create(db) as Db, {
    query: async (...asked: Parameters<Db["query"]>) => {
      const [statement] = asked;
      const isAppend = typeof statement !== "string" && statement.name === "turn_log_append";
      if (isAppend) appends += 1;
      if (isAppend && appends === 2) {
        await ended;
        await new Promise((resolve) => setImmediate(resolve));
      }
      return db.query(...asked);
    },
  });
};

const aTurn = async (): Promise<RunningTurn> => {
  const actor = newActor();
  const chatId = await newChat(database.db, actor);
  const id = randomUUID();
  await insertRunningTurn(database.db, actor, { id, chatId });
  return {
    id,
    actor,
    chatId,
    requestId: randomUUID(),
    messageId: randomUUID(),
    selectedModel: "m",
    model: model({ id: "m", tier: "standard" }),
    decision: { kind: "allow" },
    target: { providerId: "p" },
    request: {},
    context: { estimatedTokens: 1, messagesTruncated: false, summaryTokens: null, maxOutputTokens: 1 },
    toolLimits: { webSearch: 1, codeInterpreter: 1 },
    onDisconnect: "continue",
    prompt: "hi",
    attachments: [],
    files: new Map(),
    search: null,
    traceId: "",
    receivedAt: performance.now(),
  } as unknown as RunningTurn;
};

test("an answer the provider has finished is stored before a slow client is waited for", async () => {
  const { db } = database;
  const { outbox: settings } = parseConfig(
    testConfigTree({ databaseUrl: database.url, simulatorPort: 1 }) as object,
  );
  const outbox = createOutbox({ db, config: settings, instanceId: "slow" });
  await outbox.register();
  const { adapter, ended } = provider();
  const running = new RunningTurns();
  const turn = await aTurn();
  const cancellation = running.add(turn.id, turn.actor.tenantId);
  const events = runTurn(
    {
      db: slowLog(db, ended),
      outbox: outbox.enqueuer,
      running,
      readers: { appended: () => {}, ended: () => {} },
      adapterOf: () => adapter,
      maxDurationMs: 60_000,
      metrics: noMetrics,
      logger: noLogger,
      overshootToleranceBp: 11_000n,
      auditContent: false,
      summaryRules: null,
      readQuotaWarnings: async () => [],
      findPassages: async () => [],
      liveAttachments: async () => new Set(),
    },
    turn,
    cancellation,
  );
  // Whoever takes the events may be as slow as it likes with each: the turn must not wait with its end.
  const states: unknown[] = [];
  for await (const batch of events) {
    if (!JSON.stringify(batch).includes("late")) continue;
    const { rows } = await db.query("select state from chat_turns where id = $1", [turn.id]);
    states.push(rows[0]?.["state"]);
  }
  expect(states).toEqual(["completed"]);
});
