import { backoffMs } from "../lib/backoff.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Message, QueueHandler, Verdict } from "./message.ts";
import type { QueueKind, QueueSettings } from "./queue.ts";
import { reportBatch } from "./report.ts";
import { handedOver, runHandler } from "./run.ts";
import { finalVerdict, type Settlement, settlementOf } from "./settle.ts";

/** A queue this process works on. */
export interface Served {
  readonly settings: QueueSettings;
  readonly handler: QueueHandler;
  /** `{instance_id}:{queue}:{6 random}`, new per start (outbox.md §13). */
  readonly worker: string;
}

export interface BatchOptions {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly served: readonly Served[];
  readonly kindOf: (partitionId: number) => QueueKind | undefined;
  readonly batchSize: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
}

/** A leased partition: from the claim until its acknowledgement is answered. */
export interface Held {
  readonly partitionId: number;
  readonly token: string;
  readonly queue: Served;
  /** What the handler gets, at most. */
  readonly messages: readonly Message[];
  /** `performance.now()` before the claim was sent. */
  readonly claimedAt: number;
  /** More was claimed than one batch holds: the partition has a backlog. */
  readonly full: boolean;
  verdicts: readonly (Verdict | undefined)[];
}

/** The leased partitions of this process and the handlers running on them. */
export class Batches {
  readonly #options: BatchOptions;
  readonly #onFinished: (settlement: Settlement) => void;
  readonly #held = new Map<number, Held>();
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  /** Messages per batch after a failure: 1, then doubling; absent = no limit. */
  readonly #limits = new Map<number, number>();

  constructor(options: BatchOptions, onFinished: (settlement: Settlement) => void) {
    this.#options = options;
    this.#onFinished = onFinished;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Some held partition has a backlog: the next acknowledgement should not wait for company. */
  get draining(): boolean {
    for (const held of this.#held.values()) if (held.full) return true;
    return false;
  }

  sizeOf(kind: QueueKind): number {
    let count = 0;
    for (const { queue } of this.#held.values()) if (queue.settings.kind === kind) count += 1;
    return count;
  }

  /** Starts the handlers of freshly claimed messages; returns the claimed partitions by queue. */
  begin(messages: readonly Message[], token: string, claimedAt: number): ReadonlyMap<QueueKind, number> {
    const counts = new Map<QueueKind, number>();
    for (let from = 0; from < messages.length; ) {
      const partitionId = messages[from]?.partitionId;
      let to = from + 1;
      while (to < messages.length && messages[to]?.partitionId === partitionId) to += 1;
      const held = this.#hold(messages.slice(from, to), token, claimedAt);
      from = to;
      if (held === null) continue;
      const { kind } = held.queue.settings;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      const run = this.#run(held).finally(() => this.#running.delete(run));
      this.#running.add(run);
    }
    return counts;
  }

  #hold(claimed: readonly Message[], token: string, claimedAt: number): Held | null {
    const first = claimed[0];
    const kind = first === undefined ? undefined : this.#options.kindOf(first.partitionId);
    const queue = this.#options.served.find(({ settings }) => settings.kind === kind);
    if (first === undefined || queue === undefined) return null;
    const { partitionId } = first;
    // More than one attempt without a stored failure: whoever ran this head before died of something.
    const crashed = first.attempts > 1 && !first.parked;
    const limit = crashed ? 1 : (this.#limits.get(partitionId) ?? claimed.length);
    if (crashed) this.#limits.set(partitionId, 1);
    const held: Held = {
      partitionId,
      token,
      queue,
      messages: handedOver(claimed, limit),
      claimedAt,
      full: claimed.length >= this.#options.batchSize,
      verdicts: [],
    };
    this.#held.set(partitionId, held);
    this.#options.metrics.count("outbox_claimed", { kind: queue.settings.kind }, held.messages.length);
    return held;
  }

  async #run(held: Held): Promise<void> {
    const { settings } = held.queue;
    const startedAt = performance.now();
    held.verdicts = await this.#verdicts(held);
    this.#options.metrics.observe(
      "outbox_handler_duration_ms",
      { kind: settings.kind },
      performance.now() - startedAt,
    );
    const settlement = settlementOf(held, held.verdicts, {
      policy: settings.policy,
      maxAttempts: settings.maxAttempts,
      backoff: (attempts) =>
        backoffMs(attempts - 1, { baseMs: this.#options.retryBaseMs, maxMs: this.#options.retryMaxMs }),
    });
    this.#adapt(held, settlement.delayMs !== null);
    this.#onFinished(settlement);
  }

  async #verdicts(held: Held): Promise<readonly (Verdict | undefined)[]> {
    const { settings, handler } = held.queue;
    const first = held.messages[0];
    // Claimed more often than it may run: it takes the worker down with it each time.
    if (first !== undefined && first.attempts > settings.maxAttempts) {
      const lost: Verdict = { kind: "retry", error: "the worker died while handling it" };
      return [finalVerdict(lost, first.attempts, settings.maxAttempts)];
    }
    const deadline = held.claimedAt + settings.leaseMs - settings.headroomMs;
    const due = new AbortController();
    const timer = setTimeout(() => due.abort(), Math.max(0, deadline - performance.now()));
    const signal = AbortSignal.any([due.signal, this.#stop.signal]);
    const verdicts = await runHandler(handler, held.messages, { signal, deadline });
    clearTimeout(timer);
    if (verdicts !== "overdue") return verdicts;
    if (this.#stop.signal.aborted) return [];
    return [{ kind: "retry", error: "the handler did not finish within its lease" }];
  }

  /** After a failure one message at a time, after each success twice as many (outbox-engine.md). */
  #adapt(held: Held, failed: boolean): void {
    const limit = failed ? 1 : (this.#limits.get(held.partitionId) ?? Number.POSITIVE_INFINITY) * 2;
    if (limit >= this.#options.batchSize) this.#limits.delete(held.partitionId);
    else this.#limits.set(held.partitionId, limit);
  }

  /** The acknowledgement was answered: partitions outside `stood` had lost their lease. */
  settled(settlements: readonly Settlement[], stood: ReadonlySet<number>): void {
    for (const settlement of settlements) this.#drop(settlement, stood.has(settlement.partitionId));
  }

  /** The acknowledgement failed: those worth another try, the rest has outlived its lease. */
  retriable(settlements: readonly Settlement[]): Settlement[] {
    const now = performance.now();
    return settlements.filter((settlement) => {
      const held = this.#held.get(settlement.partitionId);
      if (held !== undefined && now < held.claimedAt + held.queue.settings.leaseMs) return true;
      this.#drop(settlement, false);
      return false;
    });
  }

  #drop(settlement: Settlement, stood: boolean): void {
    const held = this.#held.get(settlement.partitionId);
    if (held === undefined || held.token !== settlement.token) return;
    this.#held.delete(settlement.partitionId);
    reportBatch(this.#options, held, settlement, stood);
  }

  /** Waits for running handlers, at most `graceMs`, then fires their signals and waits for the rest. */
  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), graceMs);
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(timer);
  }
}
