import { randomUUID } from "node:crypto";
import { isConnectionLost, type Queryable } from "../db/pool.ts";
import { backoffMs } from "../lib/backoff.ts";
import { sleep } from "../lib/sleep.ts";
import { Batches, type BatchOptions } from "./batches.ts";
import { createHorizon } from "./horizon.ts";
import { createPace } from "./pace.ts";
import type { Settlement } from "./settle.ts";
import { type ClaimRequest, claim, readHorizon, readNextDue, settle } from "./store.ts";
import { createGate } from "./wake.ts";

export interface DispatcherOptions extends BatchOptions {
  /** Partitions of one queue in one claim. */
  readonly claimPartitions: number;
  /** Partitions this process holds at a time, in all. */
  readonly maxHeld: number;
  readonly pollMs: number;
  /** Told of every pass; for tests and benchmarks. */
  readonly onPass?: (() => void) | undefined;
}

// With every pass 5 ms apart the p99 of a queue was 6.1 instead of 1.4 ms while another one's receiver was
// down (bench `outbox-outages`).
const spacingMs = 5;
const burst = 4;
// While any message was seen in the last minute the configured poll stands, then it adapts.
const busyForMs = 60_000;
const idlePollMs = 15_000;
// The first one may meet a connection that died while nobody looked.
const lastExchanges = 2;

/**
 * The one loop of a process that talks to the outbox tables. A pass acknowledges everything that has
 * finished, claims what is due and asks when the next thing is due, in one round trip on one
 * connection; handlers run beside it. It sleeps until a wake-up, a finished batch, a due time or the
 * poll (outbox-engine.md, Wake-up).
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #gate = createGate();
  readonly #batches: Batches;
  #horizon = createHorizon();
  #settlements: Settlement[] = [];
  #loop: Promise<void> | null = null;
  #halted = false;
  #stopping = false;
  #failures = 0;
  #lastSeen = performance.now();
  #pollMs: number;
  readonly #pace = createPace(spacingMs, burst);

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#pollMs = options.pollMs;
    this.#batches = new Batches(options, {
      onFinished: (settlement) => {
        this.#settlements.push(settlement);
        this.#gate.raise();
      },
      onFreed: () => this.#gate.raise(),
    });
  }

  /** Does one pass, then goes on by itself. A database that is down does not fail the start. */
  async start(): Promise<void> {
    const wait = await this.#passSafely();
    this.#loop = this.#run(wait);
  }

  /** Any number of calls before the next pass cause one; a call during a pass causes one more. */
  wake(): void {
    this.#gate.raise();
  }

  /**
   * Claims nothing more, starts no message, gives running handlers `graceMs`, then fires their signals,
   * acknowledges what was finished and frees all leases. When it resolves, no handler runs (outbox.md
   * §14).
   */
  async stop(graceMs: number): Promise<void> {
    this.#halted = true;
    // The loop goes on acknowledging what finishes meanwhile.
    await this.#batches.stop(graceMs);
    this.#stopping = true;
    this.#gate.raise();
    await this.#loop;
    // A claim that was under way may have brought more; it is given back unstarted.
    await this.#batches.stop(0);
    for (let attempt = 0; this.#owes() && attempt < lastExchanges; attempt += 1) {
      await this.#exchange([]).catch((error: unknown) => {
        this.#options.logger.warn({ err: error }, "outbox leases could not be freed, they will expire");
      });
    }
  }

  async #run(firstWait: number): Promise<void> {
    for (let wait = firstWait; !this.#stopping; ) {
      await this.#gate.wait(wait);
      if (!this.#stopping) wait = await this.#passSafely();
    }
  }

  async #passSafely(): Promise<number> {
    try {
      const wait = await this.#pass();
      this.#failures = 0;
      return wait;
    } catch (error) {
      this.#options.logger.warn({ err: error, processing_stage: "outbox" }, "outbox pass failed");
      // It may be another server now, whose ids are not as far.
      this.#horizon = createHorizon();
      const wait = backoffMs(this.#failures, { baseMs: 200, maxMs: 30_000 });
      this.#failures += 1;
      // A wake-up does not shorten this wait: the database, not the work, is what is missing.
      await sleep(Math.min(wait, 1_000));
      return wait - Math.min(wait, 1_000);
    }
  }

  /** Returns the milliseconds to sleep before the next pass unless something happens. */
  async #pass(): Promise<number> {
    const startedAt = performance.now();
    this.#options.onPass?.();
    const { more, nextDueMs } = await this.#exchange(this.#requests());
    if (more) return 0;
    if (!this.#batches.draining) await sleep(this.#pace.waitMs(startedAt, performance.now()));
    return Math.min(this.#nextPoll(), nextDueMs === null ? Number.POSITIVE_INFINITY : nextDueMs + 1);
  }

  #nextPoll(): number {
    const { pollMs } = this.#options;
    const idle = performance.now() - this.#lastSeen > busyForMs;
    this.#pollMs = idle ? Math.min(Math.max(idlePollMs, pollMs), this.#pollMs * 2) : pollMs;
    return this.#pollMs;
  }

  /** What each queue may take now: its share of the process, so that a stuck queue starves no other. */
  #requests(): ClaimRequest[] {
    if (this.#halted) return [];
    const { served, maxHeld, claimPartitions } = this.#options;
    const share = Math.max(1, Math.floor(maxHeld / served.length));
    return served.flatMap(({ settings, worker }) => {
      const partitions = Math.min(
        claimPartitions,
        share - this.#batches.sizeOf(settings.kind, this.#settlements),
      );
      const batch = this.#batches.claimSizeOf(settings.kind);
      return partitions > 0 ? [{ settings, worker, partitions, batch }] : [];
    });
  }

  /** Something is to be acknowledged, or a lease kept by a pass whose claim failed is to be freed. */
  #owes(): boolean {
    return this.#settlements.length > 0 || this.#batches.kept.length > 0;
  }

  /** `more`: some queue gave as many partitions as it was asked for, so there may be others. */
  async #exchange(requests: ClaimRequest[]): Promise<{ more: boolean; nextDueMs: number | null }> {
    if (!this.#owes() && requests.length === 0) return { more: false, nextDueMs: null };
    const client = await this.#options.db.connect();
    const settlements = this.#batches.current(this.#settlements);
    this.#settlements = [];
    const keptToken = randomUUID();
    this.#batches.keep(settlements, keptToken);
    const { kept } = this.#batches;
    const pool = this.#options.db;
    const db: Queryable = { query: (statement, values = []) => pool.run(client, statement, values) };
    const token = randomUUID();
    const sentAt = performance.now();
    const names = this.#options.served.map(({ settings }) => settings.name);
    const claims = requests.length > 0 || kept.length > 0;
    const [stood, messages, nextDue, horizon] = await Promise.allSettled([
      settlements.length > 0 ? settle(db, settlements, keptToken) : new Set<number>(),
      claims ? claim(db, requests, token, this.#horizon.closed, kept) : [],
      claims ? readNextDue(db, names) : null,
      claims && this.#horizon.due(sentAt) ? readHorizon(db) : null,
    ]);
    const answers = [stood, messages, nextDue, horizon];
    const failed = answers.find((answer) => answer.status === "rejected");
    client.release(failed !== undefined && isConnectionLost(failed.reason));
    if (stood.status === "fulfilled") this.#batches.settled(settlements, stood.value);
    else this.#settlements.unshift(...this.#batches.retriable(settlements));
    // What was claimed is held, whatever else failed: it must run.
    const claimed = messages.status === "fulfilled" ? messages.value : [];
    if (claimed.length > 0) this.#lastSeen = sentAt;
    const counts =
      messages.status === "fulfilled" ? this.#batches.begin(claimed, requests, token, sentAt) : null;
    if (horizon.status === "fulfilled" && horizon.value !== null) this.#horizon.learn(horizon.value, sentAt);
    if (failed !== undefined) throw failed.reason;
    return {
      more: requests.some(({ settings, partitions }) => (counts?.get(settings.kind) ?? 0) >= partitions),
      nextDueMs: nextDue.status === "fulfilled" ? nextDue.value : null,
    };
  }
}
