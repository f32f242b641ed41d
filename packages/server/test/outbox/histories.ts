import { randomUUID } from "node:crypto";
import fc from "fast-check";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { createHorizon, type Horizon } from "../../src/outbox/horizon.ts";
import type { Message, Verdict } from "../../src/outbox/message.ts";
import type { Outbox } from "../../src/outbox/outbox.ts";
import type { QueueSettings } from "../../src/outbox/queue.ts";
import { handedOver } from "../../src/outbox/run.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim, type KeptLease, readHorizon, settle } from "../../src/outbox/store.ts";
import { RejectRefused, rejectWaiting } from "../../src/outbox/waiting.ts";
import { listWaiting } from "../../src/outbox/waiting-store.ts";
import { depsOf } from "./dead-support.ts";
import { numbered, numberOf } from "./support.ts";

/**
 * A model of the outbox and the moves of its players: producers whose transactions overlap, workers that
 * claim, answer, crash or outlive their lease, and an operator who gives messages up. `playHistory` makes the moves on a real database and
 * throws when the outbox does what the model forbids (outbox-engine.md O4, O5; outbox.md O1, O6, O7).
 */

const slots = 3;
const workers = 3;
const keys = 5;

const move = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("enqueue" as const),
      slot: fc.nat(slots - 1),
      key: fc.nat(keys - 1),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("commit" as const), slot: fc.nat(slots - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rollback" as const), slot: fc.nat(slots - 1) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("claim" as const),
      worker: fc.nat(workers - 1),
      partitions: fc.integer({ min: 1, max: 4 }),
      batch: fc.integer({ min: 1, max: 4 }),
      /** The worker looks first how far all messages are decided. */
      horizon: fc.boolean(),
      /** The next move is made while the claim is under way. */
      overlapping: fc.boolean(),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("answer" as const),
      worker: fc.nat(workers - 1),
      verdicts: fc.array(
        fc.constantFrom(
          "done" as const,
          "done" as const,
          "done" as const,
          "retry" as const,
          "reject" as const,
          "not attempted" as const,
        ),
        { minLength: 1, maxLength: 4 },
      ),
      /** Leases stay for the worker's next claim. */
      keep: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const), worker: fc.nat(workers - 1) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("outlive" as const), worker: fc.nat(workers - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("end waits" as const) }) },
  /** An operator gives up one of those at the head of their order key. */
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("give up" as const), head: fc.nat(keys - 1) }) },
);

export const history = fc.array(move, { minLength: 10, maxLength: 32, size: "max" });
type Move = typeof move extends fc.Arbitrary<infer T> ? T : never;
type Answer = (Move & { kind: "answer" })["verdicts"][number];

/** What the model knows of a message; the numbers are readings of one logical clock. */
interface Fate {
  readonly number: number;
  readonly scope: string;
  readonly transaction: object;
  readonly enqueuedAt: number;
  committedAt: number | null;
  /** When its acknowledgement was answered. */
  finishedAt: number | null;
}

interface Batch {
  readonly token: string;
  readonly partitions: ReadonlyMap<number, readonly Message[]>;
}

interface Player {
  readonly horizon: Horizon;
  batch: Batch | null;
  kept: readonly KeptLease[];
  /** A claim under way while the next move is made. */
  claiming: Promise<void> | null;
}

interface OpenTransaction {
  readonly tx: Tx;
  readonly fates: Fate[];
  readonly end: (how: "commit" | "rollback") => Promise<void>;
}

const undone = new Error("rolled back");

const openTransaction = async (db: Db): Promise<OpenTransaction> => {
  const opened = Promise.withResolvers<Tx>();
  const ending = Promise.withResolvers<"commit" | "rollback">();
  const ended = inTransaction(db, async (tx) => {
    opened.resolve(tx);
    if ((await ending.promise) === "rollback") throw undone;
  }).catch((error: unknown) => {
    if (error !== undone) throw error;
  });
  return {
    tx: await opened.promise,
    fates: [],
    end: async (how) => {
      ending.resolve(how);
      await ended;
    },
  };
};

/** Whether `b` was enqueued knowing of `a` (outbox-engine.md O4). */
const precedes = (a: Fate, b: Fate): boolean =>
  a.transaction === b.transaction
    ? a.enqueuedAt < b.enqueuedAt
    : a.committedAt !== null && a.committedAt < b.enqueuedAt;

const verdictOf = (answer: Answer | undefined): Verdict | undefined => {
  if (answer === "done") return { kind: "done" };
  if (answer === "reject") return { kind: "reject", reason: "bad" };
  return answer === "retry" ? { kind: "retry", error: "down" } : undefined;
};

export interface Stage {
  readonly db: Db;
  readonly outbox: Outbox;
  readonly settings: QueueSettings;
  /** Order keys; two of them share a partition. */
  readonly tenants: readonly string[];
}

/** One history against the model. */
class Play {
  readonly #stage: Stage;
  readonly #fates = new Map<number, Fate>();
  readonly #open = new Map<number, OpenTransaction>();
  readonly #players: readonly Player[];
  readonly #dead = new Set<number>();
  #clock = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#players = Array.from({ length: workers }, () => ({
      horizon: createHorizon(),
      batch: null,
      kept: [],
      claiming: null,
    }));
  }

  #tick(): number {
    this.#clock += 1;
    return this.#clock;
  }

  async make(moves: readonly Move[]): Promise<void> {
    for (const one of moves) await this.#makeBeside(one);
    for (const player of this.#players) await this.#finishClaim(player);
    for (const slot of [...this.#open.keys()]) await this.#close(slot, "commit");
    await this.#drain();
    for (const fate of this.#fates.values()) {
      if ((fate.committedAt === null) !== (fate.finishedAt === null)) {
        throw new Error(
          `message ${fate.number} was ${fate.committedAt === null ? "rolled back but delivered" : "lost"}`,
        );
      }
    }
    const { rows } = await this.#stage.db.query<{ n: number }>("select count(*)::int as n from outbox_dead");
    if (rows[0]?.n !== this.#dead.size) throw new Error("dead letters differ from the rejects");
    if (this.#dead.size > 0) await this.#stage.db.query("delete from outbox_dead");
  }

  /**
   * Makes a move beside the claims that are under way. What they brought is judged after it: the answer to
   * an acknowledgement may arrive behind that of a claim which has seen it.
   */
  async #makeBeside(one: Move): Promise<void> {
    const claiming = this.#players.filter((player) => player.claiming !== null);
    await this.#make(one);
    for (const player of claiming) await this.#finishClaim(player);
  }

  async #finishClaim(player: Player): Promise<void> {
    if (player.claiming === null) return;
    await player.claiming;
    player.claiming = null;
    for (const messages of player.batch?.partitions.values() ?? []) this.#checkOrder(messages);
  }

  async #make(one: Move): Promise<void> {
    if (one.kind === "enqueue") return this.#enqueue(one.slot, one.key);
    if (one.kind === "commit" || one.kind === "rollback") return this.#close(one.slot, one.kind);
    if (one.kind === "end waits") return this.#endWaits();
    if (one.kind === "give up") return this.#giveUp(one.head);
    const player = this.#players[one.worker];
    if (player === undefined) return;
    // A worker does one thing at a time.
    await this.#finishClaim(player);
    if (one.kind === "claim") {
      if (player.batch !== null) return;
      if (one.horizon) await this.#readHorizon(player);
      player.claiming = this.#claim(player, one.partitions, one.batch);
      player.claiming.catch(() => {});
      if (!one.overlapping) await this.#finishClaim(player);
    } else if (one.kind === "answer") await this.#answer(player, one.verdicts, one.keep);
    else {
      await this.#expire(player);
      if (one.kind === "crash") Object.assign(player, { batch: null, kept: [] });
    }
  }

  async #enqueue(slot: number, key: number): Promise<void> {
    const transaction = this.#open.get(slot) ?? (await openTransaction(this.#stage.db));
    this.#open.set(slot, transaction);
    const tenant = this.#stage.tenants[key] ?? "";
    const fate: Fate = {
      number: this.#fates.size,
      scope: this.#stage.settings.policy === "block" ? tenant.slice(-2) : tenant,
      transaction,
      enqueuedAt: this.#tick(),
      committedAt: null,
      finishedAt: null,
    };
    this.#fates.set(fate.number, fate);
    transaction.fates.push(fate);
    await this.#stage.outbox.enqueuer.enqueueUsageEvent(transaction.tx, numbered(tenant, fate.number));
  }

  async #close(slot: number, how: "commit" | "rollback"): Promise<void> {
    const transaction = this.#open.get(slot);
    if (transaction === undefined) return;
    this.#open.delete(slot);
    await transaction.end(how);
    if (how === "commit") for (const fate of transaction.fates) fate.committedAt = this.#tick();
  }

  async #claim(player: Player, partitions: number, batch: number): Promise<void> {
    const token = randomUUID();
    const request = { settings: this.#stage.settings, partitions, batch, worker: "model" };
    const { kept } = player;
    player.kept = [];
    const messages = await claim(this.#stage.db, [request], token, player.horizon.closed, kept);
    if (messages.length === 0) return;
    player.batch = { token, partitions: Map.groupBy(messages, ({ partitionId }) => partitionId) };
  }

  async #readHorizon({ horizon }: Player): Promise<void> {
    const reading = await readHorizon(this.#stage.db);
    if (reading !== null) horizon.learn(reading, 0);
  }

  /** Of what is handed over, all that precedes it has been acknowledged or is handed over before it. */
  #checkOrder(messages: readonly Message[]): void {
    const ahead = new Set<Fate>();
    const handed = handedOver(messages, Number.POSITIVE_INFINITY).flatMap((at) => messages[at] ?? []);
    for (const message of handed) {
      const fate = this.#fateOf(message);
      if (fate.finishedAt !== null) throw new Error(`message ${fate.number} was handed over after its end`);
      for (const other of this.#fates.values()) {
        const first = other.scope === fate.scope && other !== fate && precedes(other, fate);
        if (first && other.finishedAt === null && !ahead.has(other)) {
          throw new Error(`message ${fate.number} was handed over ahead of ${other.number}`);
        }
      }
      ahead.add(fate);
    }
  }

  #fateOf(message: Message): Fate {
    const fate = this.#fates.get(numberOf(message));
    if (fate === undefined) throw new Error("a message nobody has enqueued");
    return fate;
  }

  async #answer(player: Player, answers: readonly Answer[], keep = false): Promise<void> {
    const { batch } = player;
    if (batch === null) return;
    player.batch = null;
    const { settings, db } = this.#stage;
    const settlements = [...batch.partitions].map(([partitionId, messages]) => {
      const verdicts: (Verdict | undefined)[] = new Array(messages.length);
      for (const at of handedOver(messages, Number.POSITIVE_INFINITY)) {
        verdicts[at] = verdictOf(answers[at % answers.length]);
      }
      const settlement = settlementOf({ partitionId, token: batch.token, messages }, verdicts, {
        policy: settings.policy,
        maxAttempts: Number.POSITIVE_INFINITY,
        backoff: () => 3_600_000,
      });
      return { ...settlement, keep };
    });
    const keptToken = randomUUID();
    const stood = await settle(db, settlements, keptToken);
    if (keep) player.kept = [...stood].map((partitionId) => ({ partitionId, token: keptToken }));
    for (const settlement of settlements) {
      if (!stood.has(settlement.partitionId)) continue;
      const byId = new Map(batch.partitions.get(settlement.partitionId)?.map((m) => [m.id, m]));
      const dead = settlement.dead.map(({ id }) => id);
      for (const id of [...settlement.done, ...dead]) this.#finish(byId.get(id), dead.includes(id));
    }
  }

  #finish(message: Message | undefined, dead: boolean): void {
    if (message === undefined) throw new Error("acknowledged what was not claimed");
    this.#end(numberOf(message), dead);
  }

  #end(number: number, dead: boolean): void {
    const fate = this.#fates.get(number);
    if (fate === undefined) throw new Error("a message nobody has enqueued");
    if (fate.finishedAt !== null) throw new Error(`message ${fate.number} came to its end twice`);
    fate.finishedAt = this.#tick();
    if (dead) this.#dead.add(fate.number);
  }

  async #expire({ batch, kept }: Player): Promise<void> {
    const tokens = [...(batch === null ? [] : [batch.token]), ...kept.map(({ token }) => token)];
    if (tokens.length === 0) return;
    await this.#stage.db.query(
      "update outbox_partition set lease_until = now() - interval '1 ms' where lease_token = any ($1)",
      [tokens],
    );
  }

  async #endWaits(): Promise<void> {
    await this.#stage.db.query("update outbox_parked set until = now() - interval '1 ms'");
    await this.#stage.db.query("update outbox_partition set not_before = null where not_before is not null");
  }

  async #giveUp(at: number): Promise<void> {
    const heads = await listWaiting(this.#stage.db, { all: true }, { limit: keys });
    const head = heads[at % Math.max(1, heads.length)];
    if (head === undefined) return;
    const letter = await rejectWaiting(depsOf(this.#stage.db), head.messageId, {
      actor: "model",
      patienceMs: 0,
    }).catch((error: unknown) => {
      if (error instanceof RejectRefused) return null;
      throw error;
    });
    if (letter === null) return;
    const { rows } = await this.#stage.db.query<{ payload: string }>(
      "select payload from outbox_dead where id = $1",
      [letter.id],
    );
    this.#end(Number(JSON.parse(rows[0]?.payload ?? "").web_search_calls), true);
  }

  /** Delivers everything that is left. */
  async #drain(): Promise<void> {
    const [player] = this.#players;
    if (player === undefined) return;
    for (const one of this.#players) await this.#answer(one, ["done"]);
    for (;;) {
      await this.#stage.db.query(
        "update outbox_partition set lease_until = now() - interval '1 ms' where lease_until > now()",
      );
      await this.#endWaits();
      player.claiming = this.#claim(player, 4, 10);
      await this.#finishClaim(player);
      if (player.batch === null) break;
      await this.#answer(player, ["done"]);
    }
    const { rows } = await this.#stage.db.query("select from outbox_message limit 1");
    if (rows.length > 0) throw new Error("messages are left that no claim finds");
  }
}

export const playHistory = (stage: Stage, moves: readonly Move[]): Promise<void> =>
  new Play(stage).make(moves);
