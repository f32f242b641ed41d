import type { Db } from "../db/pool.ts";
import { backoffMs } from "../lib/backoff.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Attempt, attempt } from "./attempt.ts";
import { createClaimSizes } from "./claim-sizes.ts";
import type { Held, Served } from "./held.ts";
import { createLimits } from "./limits.ts";
import type { Message, TransactionalHandler, Verdict } from "./message.ts";
import type { QueueKind } from "./queue.ts";
import { reportBatch, reportLost } from "./report.ts";
import { type Settlement, settlementOf } from "./settle.ts";
import { type ClaimRequest, type KeptLease, renewLease } from "./store.ts";
import { runTransactional } from "./transactional.ts";

export interface BatchOptions {
  readonly db: Db;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly served: readonly Served[];
  readonly kindOf: (partitionId: number) => QueueKind | undefined;
  readonly batchSize: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
}

export interface BatchEvents {
  /** The batch awaits this acknowledgement. */
  readonly onFinished: (settlement: Settlement) => void;
  /** The batch has acknowledged itself: its partition is free again. */
  readonly onFreed: () => void;
}

// A busy partition stays with its worker this long, then others have their turn: with 256 busy partitions
// of four queues, one process serves each of them about once a second.
const fairShareMs = 250;

/** The leased partitions of this process and the handlers running on them. */
export class Batches {
  readonly #options: BatchOptions;
  readonly #events: BatchEvents;
  readonly #held = new Map<number, Held>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #cut = new AbortController();
  readonly #limits: ReturnType<typeof createLimits>;
  readonly #sizes: ReturnType<typeof createClaimSizes>;
  /** Leases kept for the next claim, with the time of the claim they began with. */
  readonly #kept = new Map<number, { readonly token: string; readonly since: number }>();

  constructor(options: BatchOptions, events: BatchEvents) {
    this.#options = options;
    this.#events = events;
    this.#limits = createLimits(options.batchSize);
    this.#sizes = createClaimSizes(options.batchSize);
  }

  get size(): number {
    return this.#held.size;
  }

  /** Some held partition has a backlog: the next acknowledgement should not wait for company. */
  get draining(): boolean {
    for (const held of this.#held.values()) if (held.full) return true;
    return false;
  }

  /** Partitions of the queue that are held beyond these acknowledgements. */
  sizeOf(kind: QueueKind, settlements: readonly Settlement[]): number {
    const freed = new Set(settlements.map(({ partitionId }) => partitionId));
    let count = 0;
    for (const { queue, partitionId } of this.#held.values()) {
      if (queue.settings.kind === kind && !freed.has(partitionId)) count += 1;
    }
    return count;
  }

  /** Messages of a partition that the next claim of this queue asks for. */
  claimSizeOf(kind: QueueKind): number {
    return this.#sizes.of(kind);
  }

  /** The partitions whose leases the next claim takes over or frees. */
  get kept(): readonly KeptLease[] {
    return [...this.#kept].map(([partitionId, { token }]) => ({ partitionId, token }));
  }

  /**
   * These acknowledgements leave leases under the token. Should they fail, no lease has it, and the next
   * claim finds none.
   */
  keep(settlements: readonly Settlement[], token: string): void {
    for (const settlement of settlements) {
      const held = settlement.keep ? this.#heldOf(settlement) : undefined;
      if (held !== undefined) this.#kept.set(held.partitionId, { token, since: held.keptSince });
    }
  }

  /**
   * Starts the handlers of freshly claimed messages; returns the claimed partitions by queue. The claim
   * has taken over or freed all that was kept.
   */
  begin(
    messages: readonly Message[],
    requests: readonly ClaimRequest[],
    token: string,
    claimedAt: number,
  ): ReadonlyMap<QueueKind, number> {
    const sizes = new Map(requests.map(({ settings, batch }) => [settings.kind, batch]));
    const counts = new Map<QueueKind, number>();
    for (let from = 0; from < messages.length; ) {
      const partitionId = messages[from]?.partitionId;
      let to = from + 1;
      while (to < messages.length && messages[to]?.partitionId === partitionId) to += 1;
      const held = this.#hold(messages.slice(from, to), sizes, token, claimedAt);
      from = to;
      if (held === null) continue;
      const { kind } = held.queue.settings;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      const run = this.#run(held).finally(() => this.#running.delete(run));
      this.#running.add(run);
    }
    this.#kept.clear();
    return counts;
  }

  #hold(
    claimed: readonly Message[],
    sizes: ReadonlyMap<QueueKind, number>,
    token: string,
    claimedAt: number,
  ): Held | null {
    const first = claimed[0];
    const kind = first === undefined ? undefined : this.#options.kindOf(first.partitionId);
    const queue = this.#options.served.find(({ settings }) => settings.kind === kind);
    if (first === undefined || kind === undefined || queue === undefined) return null;
    const { partitionId } = first;
    const before = this.#held.get(partitionId);
    // Its lease ran out here while its handler went on; what that answers no longer counts (O7).
    if (before !== undefined) this.#lose(before);
    const held: Held = {
      partitionId,
      token,
      queue,
      messages: claimed,
      claimedAt,
      keptSince: this.#kept.get(partitionId)?.since ?? claimedAt,
      leasedAt: claimedAt,
      full: claimed.length >= (sizes.get(kind) ?? this.#options.batchSize),
      verdicts: [],
    };
    this.#held.set(partitionId, held);
    return held;
  }

  async #run(held: Held): Promise<void> {
    const { handler } = held.queue;
    if (typeof handler !== "function") return this.#runTransactional(held, handler);
    const { db, metrics } = this.#options;
    this.#finish(
      held,
      await attempt(held, handler, {
        metrics,
        limits: this.#limits,
        stopping: this.#stopping.signal,
        cut: this.#cut.signal,
        renew: ({ partitionId, token, queue }) => renewLease(db, partitionId, token, queue.settings.leaseMs),
      }),
    );
  }

  #finish(held: Held, { verdicts, failed }: Attempt): void {
    if (this.#held.get(held.partitionId) !== held) return;
    held.verdicts = verdicts;
    const settlement = this.#settlement(held, verdicts);
    this.#adapt(held, settlement, failed);
    // A handler that does nothing with what it gets would be given it again at once, for ever.
    const idle = !this.#stopping.signal.aborted && verdicts.every((verdict) => verdict === undefined);
    const delayMs = idle ? this.#backoff(1) : settlement.delayMs;
    this.#events.onFinished({ ...settlement, delayMs, keep: this.#keeps(held, settlement) });
  }

  async #runTransactional(held: Held, handler: TransactionalHandler): Promise<void> {
    const outcome = await runTransactional(held, handler, {
      db: this.#options.db,
      metrics: this.#options.metrics,
      limits: this.#limits,
      stopping: this.#stopping.signal,
      settlementOf: (verdicts) => this.#settlement(held, verdicts),
    });
    if (outcome.kind === "failed") return this.#finish(held, { verdicts: outcome.verdicts, failed: true });
    if (this.#held.get(held.partitionId) !== held) return;
    if (outcome.kind === "lost") this.#lose(held);
    else {
      this.#adapt(held, outcome.settlement, false);
      this.#held.delete(held.partitionId);
      reportBatch(this.#options, held, outcome.settlement);
    }
    this.#events.onFreed();
  }

  /** All of a full batch was finished, and others need not have their turn yet. */
  #keeps(held: Held, { delayMs, head, parked }: Settlement): boolean {
    const clean = delayMs === null && head === null && parked.length === 0;
    return held.full && clean && performance.now() - held.keptSince < fairShareMs;
  }

  #settlement(held: Held, verdicts: readonly (Verdict | undefined)[]): Settlement {
    const { policy, maxAttempts } = held.queue.settings;
    return settlementOf(held, verdicts, {
      policy,
      maxAttempts,
      backoff: (attempts) => this.#backoff(attempts),
    });
  }

  #backoff(attempts: number): number {
    return backoffMs(attempts - 1, { baseMs: this.#options.retryBaseMs, maxMs: this.#options.retryMaxMs });
  }

  /** After a failure one message at a time, after each success twice as many (outbox-engine.md). */
  #adapt(held: Held, settlement: Settlement, failed: boolean): void {
    const { partitionId, messages } = held;
    const partition = `${partitionId}`;
    const { kind } = held.queue.settings;
    if (settlement.done.length === 0) this.#sizes.failed(kind);
    else if (held.full && settlement.done.length === messages.length) this.#sizes.succeeded(kind);
    if (failed || settlement.delayMs !== null) this.#limits.failed(partition);
    else this.#limits.succeeded(partition);
    const finished = new Set(settlement.done);
    const keys = new Set(messages.flatMap(({ id, orderKey }) => (finished.has(id) ? orderKey : [])));
    for (const key of settlement.resumed) this.#limits.failed(`${partition}/${key}`);
    for (const { orderKey } of settlement.parked) keys.delete(orderKey);
    for (const key of keys) this.#limits.succeeded(`${partition}/${key}`);
  }

  /** The acknowledgement was answered: partitions outside `stood` had lost their lease. */
  settled(settlements: readonly Settlement[], stood: ReadonlySet<number>): void {
    for (const settlement of settlements) {
      const held = this.#heldOf(settlement);
      if (held === undefined) continue;
      if (!stood.has(settlement.partitionId)) this.#lose(held);
      else {
        this.#held.delete(held.partitionId);
        reportBatch(this.#options, held, settlement);
      }
    }
  }

  /** The acknowledgement failed: those worth another try, the rest has outlived its lease. */
  retriable(settlements: readonly Settlement[]): Settlement[] {
    const now = performance.now();
    return settlements.filter((settlement) => {
      const held = this.#heldOf(settlement);
      if (held === undefined) return false;
      if (now < held.leasedAt + held.queue.settings.leaseMs) return true;
      this.#lose(held);
      return false;
    });
  }

  /** Settlements that still speak for their partition: at most one each, under the token it holds. */
  current(settlements: readonly Settlement[]): Settlement[] {
    return settlements.filter((settlement) => this.#heldOf(settlement) !== undefined);
  }

  /** The batch a settlement is about, unless its lease was lost since. */
  #heldOf(settlement: Settlement): Held | undefined {
    const held = this.#held.get(settlement.partitionId);
    return held?.token === settlement.token ? held : undefined;
  }

  #lose(held: Held): void {
    this.#held.delete(held.partitionId);
    reportLost(this.#options, held);
  }

  /**
   * Starts no handler any more, waits for running ones, at most `graceMs`, then fires their signals and
   * waits for the rest.
   */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    const timer = setTimeout(() => this.#cut.abort(), graceMs);
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(timer);
  }
}
