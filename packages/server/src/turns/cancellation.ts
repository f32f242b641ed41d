import type { TenantId } from "../auth/actor.ts";
import type { CancelReason } from "./turn.ts";

/** Stops one running turn of this process. The first reason counts; the signal fires once. */
export class Cancellation {
  readonly #controller = new AbortController();
  #reason: CancelReason | null = null;
  #requestedAt = 0;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get reason(): CancelReason | null {
    return this.#reason;
  }

  /** `performance.now()` of the request, for the abort metrics. */
  get requestedAt(): number {
    return this.#requestedAt;
  }

  cancel(reason: CancelReason): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#requestedAt = performance.now();
    this.#controller.abort();
  }
}

interface Running {
  readonly tenantId: TenantId;
  readonly cancellation: Cancellation;
  readonly finished: Promise<void>;
  readonly finish: () => void;
  /** True while the provider is being read: only then does the progress clock move by itself. */
  generating: boolean;
}

/**
 * The turns running in this process: what an explicit cancel, a notification from another process
 * and the drain reach. Bookkeeping only: every guard is in the database (turns.md §16.3).
 */
export class RunningTurns {
  readonly #turns = new Map<string, Running>();
  #onEmpty: (() => void)[] = [];
  #stopped: CancelReason | null = null;
  #expected = 0;

  get size(): number {
    return this.#turns.size;
  }

  /** Set once no turn may begin any more. */
  get stopped(): CancelReason | null {
    return this.#stopped;
  }

  /** A send that may become a turn: `empty()` waits for it too. Returns how to tell that it is decided. */
  expect(): () => void {
    this.#expected += 1;
    return () => {
      this.#expected -= 1;
      this.#tellIfEmpty();
    };
  }

  /** Enters a turn, before its transaction commits, so that no cancel can miss it. */
  add(turnId: string, tenantId: TenantId): Cancellation {
    let finish: () => void = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const cancellation = new Cancellation();
    if (this.#stopped !== null) cancellation.cancel(this.#stopped);
    this.#turns.set(turnId, { tenantId, cancellation, finished, finish, generating: false });
    return cancellation;
  }

  setGenerating(turnId: string, generating: boolean): void {
    const running = this.#turns.get(turnId);
    if (running !== undefined) running.generating = generating;
  }

  /** The turns whose provider is being read. */
  generating(): { id: string; tenantId: TenantId }[] {
    return [...this.#turns].flatMap(([id, turn]) =>
      turn.generating ? [{ id, tenantId: turn.tenantId }] : [],
    );
  }

  remove(turnId: string): void {
    this.#turns.get(turnId)?.finish();
    this.#turns.delete(turnId);
    this.#tellIfEmpty();
  }

  #tellIfEmpty(): void {
    if (this.#turns.size + this.#expected > 0) return;
    for (const resolve of this.#onEmpty.splice(0)) resolve();
  }

  has(turnId: string): boolean {
    return this.#turns.has(turnId);
  }

  /** True when the turn runs here; its stream then ends by itself. */
  cancel(turnId: string, reason: CancelReason): boolean {
    const running = this.#turns.get(turnId);
    running?.cancellation.cancel(reason);
    return running !== undefined;
  }

  /** Stops every turn, those under way in their preflight transaction included. */
  stopAll(reason: CancelReason): void {
    this.#stopped = reason;
    for (const running of this.#turns.values()) running.cancellation.cancel(reason);
  }

  /** Resolves when the turn is finalized, or at once when it does not run here. */
  finished(turnId: string): Promise<void> {
    return this.#turns.get(turnId)?.finished ?? Promise.resolve();
  }

  /** Resolves when no turn runs here and none is about to. */
  empty(): Promise<void> {
    if (this.#turns.size + this.#expected === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onEmpty.push(resolve));
  }
}
