import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { selected } from "./attempt.ts";
import type { Held } from "./held.ts";
import type { Limits } from "./limits.ts";
import type { Message, TransactionalHandler, Verdict } from "./message.ts";
import { errorText, type Settlement } from "./settle.ts";
import { lockLease, settle } from "./store.ts";

export interface TransactionalOptions {
  readonly db: Db;
  readonly metrics: Metrics;
  readonly limits: Limits;
  readonly stopping: AbortSignal;
  readonly settlementOf: (verdicts: readonly (Verdict | undefined)[]) => Settlement;
}

/** What became of the transaction; `lost`: nothing of it counts, another worker has the partition. */
export type TransactionalOutcome =
  | { readonly kind: "committed"; readonly settlement: Settlement }
  | { readonly kind: "lost" }
  /** Rolled back as a whole; the first message is tried again, alone. */
  | { readonly kind: "failed"; readonly verdicts: readonly (Verdict | undefined)[] };

class LeaseLost extends Error {}

/**
 * Runs the messages of a leased partition in one transaction, one savepoint each, and acknowledges them
 * in it (outbox-engine.md, Handlers). The row of the lease is locked first, so that nobody takes the
 * partition over meanwhile, however long it takes. Never throws.
 */
export const runTransactional = async (
  held: Held,
  handler: TransactionalHandler,
  options: TransactionalOptions,
): Promise<TransactionalOutcome> => {
  const { settings } = held.queue;
  const { handed, verdicts: beforehand } = selected(held, options.limits);
  options.metrics.count("outbox_claimed", { kind: settings.kind }, handed.length);
  const startedAt = performance.now();
  try {
    const settlement = await inTransaction(options.db, async (tx) => {
      if (!(await lockLease(tx, held.partitionId, held.token))) throw new LeaseLost();
      const verdicts = [...beforehand];
      await runEach(tx, handler, held, handed, verdicts, options.stopping);
      held.verdicts = verdicts;
      const answer = options.settlementOf(verdicts);
      // Acknowledgements do not wait for their WAL; what the handler wrote is to last like any other write.
      await Promise.all([settle(tx, [answer]), tx.query("set local synchronous_commit to default")]);
      return answer;
    });
    return { kind: "committed", settlement };
  } catch (error) {
    if (error instanceof LeaseLost) return { kind: "lost" };
    const verdicts = [...beforehand];
    const [first] = handed;
    if (first !== undefined) verdicts[first] = { kind: "retry", error: errorText(error) };
    return { kind: "failed", verdicts };
  } finally {
    options.metrics.observe(
      "outbox_handler_duration_ms",
      { kind: settings.kind },
      performance.now() - startedAt,
    );
  }
};

const runEach = async (
  tx: Tx,
  handler: TransactionalHandler,
  held: Held,
  handed: readonly number[],
  verdicts: (Verdict | undefined)[],
  stopping: AbortSignal,
): Promise<void> => {
  const { policy, leaseMs, headroomMs } = held.queue.settings;
  const failed = new Set<string>();
  const deadline = held.leasedAt + leaseMs - headroomMs;
  for (const at of handed) {
    const message = held.messages[at];
    if (message === undefined || stopping.aborted || performance.now() > deadline) return;
    const scope = policy === "block" ? "" : message.orderKey;
    if (failed.has(scope)) continue;
    const verdict = await runOne(tx, handler, message);
    verdicts[at] = verdict;
    if (verdict.kind === "retry") failed.add(scope);
  }
};

const runOne = async (tx: Tx, handler: TransactionalHandler, message: Message): Promise<Verdict> => {
  await tx.query("savepoint message");
  const verdict = await handler
    .inTransaction(message, tx)
    .catch((error: unknown): Verdict => ({ kind: "retry", error: errorText(error) }));
  const kept = verdict.kind === "done" || verdict.kind === "already_terminal";
  await tx.query(kept ? "release savepoint message" : "rollback to savepoint message");
  return verdict;
};
