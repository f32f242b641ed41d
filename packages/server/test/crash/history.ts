import { randomUUID } from "node:crypto";
import type { Scenario, Simulator } from "@mini-chat/simulator";
import fc from "fast-check";
import type { Db } from "../../src/db/pool.ts";
import { callApi, eventually } from "../support/app.ts";
import type { Caller } from "../support/config.ts";
import type { OpenedStream, WireEvent } from "../support/stream.ts";
import { mutate, type Op, ops } from "../turns/mutation-support.ts";
import { newChat, send } from "./support.ts";

/** Random lives of turns: what the provider does, and what happens to the turn meanwhile. */

/** What the provider says once its gate opens. */
const answers = {
  completes: { usage: { input_tokens: 40, output_tokens: 7 } },
  "says no usage": { usage: "absent" },
  "says zero usage": { usage: "zero" },
  "uses more than reserved": { usage: { input_tokens: 900, output_tokens: 6_000 } },
  "stops early": { incomplete_reason: "max_output_tokens" },
  fails: { error: { code: "server_error" }, usage: "absent" },
  "fails with usage": { error: { code: "server_error" }, usage: { input_tokens: 30, output_tokens: 2 } },
  "breaks its format": { malformed: "broken_json" },
  "hangs up": { drop_after: 2 },
  refuses: { http_status: 400 },
  "is overloaded": { http_status: 429 },
} as const satisfies Record<string, Scenario>;
export type Answer = keyof typeof answers;

const interruptions = [
  "nothing",
  "disconnect",
  "cancel",
  "orphaned",
  "orphaned after a cancel",
  "chat deleted",
  "all at once",
] as const;
export type Interruption = (typeof interruptions)[number];

export interface PlannedTurn {
  readonly user: 0 | 1;
  readonly model: "standard" | "premium";
  readonly answer: Answer;
  readonly interruption: Interruption;
  /** How many further turns begin before this one ends. */
  readonly outlasts: number;
  /** Sends of the same request: at once with the first, and after the end. */
  readonly twins: number;
  readonly replays: number;
  /** What is asked of the chat's latest turn afterwards, one after the other or all at once. */
  readonly mutations: readonly Op[];
  readonly mutationsAtOnce: boolean;
}

export const plannedTurn: fc.Arbitrary<PlannedTurn> = fc.record({
  user: fc.constantFrom(0, 1),
  model: fc.constantFrom("standard", "premium"),
  answer: fc.constantFrom(...(Object.keys(answers) as Answer[])),
  interruption: fc.oneof(
    { weight: 2, arbitrary: fc.constant<Interruption>("nothing") },
    { weight: 3, arbitrary: fc.constantFrom(...interruptions) },
  ),
  outlasts: fc.nat(3),
  twins: fc.nat(2),
  replays: fc.nat(2),
  mutations: fc.array(fc.constantFrom(...ops), { maxLength: 2 }),
  mutationsAtOnce: fc.boolean(),
});

export interface Stage {
  readonly server: { readonly base: string };
  readonly db: Db;
  readonly simulator: Simulator;
  /** One scan of the watchdog. */
  readonly scan: () => Promise<unknown>;
}

/** A turn that was admitted and waits for its provider, or has ended already. */
export interface BegunTurn {
  readonly planned: PlannedTurn;
  readonly caller: Caller;
  readonly chatId: string;
  readonly requestId: string;
  readonly gate: string;
  readonly stream: OpenedStream;
  readonly events: Promise<readonly WireEvent[]>;
}

const scenarioOf = (answer: Answer, gate: string): Scenario =>
  answer === "refuses" || answer === "is overloaded"
    ? { ...answers[answer], gate }
    : {
        ...answers[answer],
        events: [{ text: "some" }, { wait_for: gate }, { text: " text" }, { text: "." }],
      };

/** Sends the turn, with its twins; null when it was refused. Turns begin one after the other. */
export const begin = async (
  stage: Stage,
  caller: Caller,
  planned: PlannedTurn,
): Promise<BegunTurn | null> => {
  const { server, simulator } = stage;
  const chatId = await newChat(server, { caller, model: planned.model });
  const requestId = randomUUID();
  const gate = randomUUID();
  simulator.clearScenarios();
  simulator.enqueue(scenarioOf(planned.answer, gate));
  const streams = await Promise.all(
    Array.from({ length: 1 + planned.twins }, () => send(server, chatId, { caller, requestId })),
  );
  const [stream, ...more] = streams.filter(({ status }) => status === 200);
  for (const { status } of streams) {
    if (![200, 409, 429].includes(status)) throw new Error(`answered ${status}`);
  }
  if (stream === undefined) return null;
  const events = stream.rest();
  // A refused upstream call never reaches the gate: the turn has ended then.
  await Promise.race([simulator.arrived(gate), events]);
  if (more.length > 0) throw new Error("one request_id was answered twice");
  return { planned, caller, chatId, requestId, gate, stream, events };
};

/** Lets happen to the turn what is planned, and waits for its end in the database. */
export const finish = async (stage: Stage, turn: BegunTurn): Promise<void> => {
  const { simulator, db } = stage;
  await interrupt(stage, turn);
  simulator.open(turn.gate);
  const { rows } = await db.query("select id from chat_turns where chat_id = $1", [turn.chatId]);
  if (rows.length !== 1) throw new Error(`${rows.length} turns of one request`);
  await turn.events;
  await eventually(
    async () =>
      (await db.query("select from chat_turns where chat_id = $1 and state = 'running'", [turn.chatId]))
        .rowCount === 0,
  );
  for (let at = 0; at < turn.planned.replays; at += 1) {
    const again = await send(stage.server, turn.chatId, turn);
    if (![200, 404, 409].includes(again.status)) throw new Error(`a replay was answered ${again.status}`);
    await again.rest();
  }
  await change(stage, turn);
};

/** Retries, edits and deletes whatever is the latest turn of the chat; refusals are as good as successes. */
const change = async (stage: Stage, { planned, chatId, caller }: BegunTurn): Promise<void> => {
  const { mutations, mutationsAtOnce } = planned;
  const once = async (asked: readonly Op[]): Promise<void> => {
    const requestId = await latestOf(stage, chatId);
    const streams = await Promise.all(
      asked.map((op) => mutate(stage.server, op, { chatId, requestId }, { caller })),
    );
    const statuses = streams.map(({ status }) => status);
    if (statuses.some((status) => ![200, 204, 404, 409, 429].includes(status))) {
      throw new Error(`mutations were answered ${statuses}`);
    }
    if (statuses.filter((status) => status < 300).length > 1) throw new Error("two mutations of one turn");
    await Promise.all(streams.map((stream) => stream.rest()));
  };
  stage.simulator.clearScenarios();
  if (mutationsAtOnce) await once(mutations);
  else for (const op of mutations) await once([op]);
};

const latestOf = async ({ db }: Stage, chatId: string): Promise<string> => {
  const { rows } = await db.query<{ id: string }>(
    `select request_id as id from chat_turns where chat_id = $1
     order by deleted_at is null desc, started_at desc, id desc limit 1`,
    [chatId],
  );
  return rows[0]?.id ?? "";
};

const interrupt = async (stage: Stage, turn: BegunTurn): Promise<void> => {
  const { server, simulator } = stage;
  const { caller, chatId, requestId } = turn;
  const cancel = () =>
    callApi(`${server.base}/chats/${chatId}/turns/${requestId}/cancel`, "POST", { caller });
  switch (turn.planned.interruption) {
    case "nothing":
      return;
    case "disconnect":
      turn.stream.disconnect();
      return ended(stage, turn);
    case "cancel":
      await cancel();
      return;
    case "orphaned":
      await orphan(stage, turn, false);
      await stage.scan();
      return;
    case "orphaned after a cancel":
      await orphan(stage, turn, true);
      await stage.scan();
      return;
    case "chat deleted":
      await callApi(`${server.base}/chats/${chatId}`, "DELETE", { caller });
      return ended(stage, turn);
    case "all at once":
      await orphan(stage, turn, false);
      simulator.open(turn.gate);
      turn.stream.disconnect();
      await Promise.all([cancel(), stage.scan(), stage.scan()]);
  }
};

const ended = async ({ db }: Stage, { chatId }: BegunTurn): Promise<void> => {
  const running = "select from chat_turns where chat_id = $1 and state = 'running'";
  await eventually(async () => (await db.query(running, [chatId])).rowCount === 0);
};

/** As if its process had died: nobody is there any more who would speak for it. */
const orphan = async ({ db }: Stage, { chatId }: BegunTurn, cancelRequested: boolean): Promise<void> => {
  await db.query(
    `update chat_turns
     set
       owner_instance_id = gen_random_uuid(),
       last_progress_at = now() - interval '40 seconds',
       cancel_requested_at = case when $2 then now() end
     where chat_id = $1 and state = 'running'`,
    [chatId, cancelRequested],
  );
};
