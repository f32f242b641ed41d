import type { Db } from "../db/pool.ts";
import type { LlmProvider, ProviderTarget } from "../providers/contract.ts";
import { brokenTerminal } from "./answer.ts";
import type { Cancellation, RunningTurns } from "./cancellation.ts";
import { type ClosingDeps, closingEvents } from "./closing.ts";
import { type FindPassages, searchingHere } from "./excerpts.ts";
import { type FinalizeDeps, finalizeTurn } from "./finalize.ts";
import { generate } from "./generate.ts";
import type { StreamEvent } from "./grammar.ts";
import { TurnLog, throughLog } from "./log.ts";
import type { LogReaders } from "./readers.ts";
import type { RunningTurn } from "./running.ts";
import { isResumable, startedEvent } from "./started.ts";
import { countToolCalls } from "./store.ts";
import { createToolCallWriter } from "./tool-calls.ts";
import type { Terminal } from "./turn.ts";

export interface RunDeps extends FinalizeDeps, ClosingDeps {
  readonly db: Db;
  readonly running: RunningTurns;
  readonly readers: Pick<LogReaders, "appended" | "ended">;
  readonly adapterOf: (target: ProviderTarget) => LlmProvider;
  readonly findPassages: FindPassages;
  /** After this time the provider call is aborted and the turn fails with `provider_timeout`. */
  readonly maxDurationMs: number;
}

/**
 * The conductor: one turn from its committed preflight to its committed end (turns.md §8–10).
 * Yields the client's events; terminal ones only after the commit. The consumer always drains it,
 * whatever happens to the client: a disconnect, a cancel or a shutdown only fires the cancellation.
 */
export async function* runTurn(
  deps: RunDeps,
  turn: RunningTurn,
  cancellation: Cancellation,
): AsyncGenerator<readonly StreamEvent[], void, void> {
  const deadline = setTimeout(() => cancellation.cancel("timeout"), deps.maxDurationMs);
  deps.metrics.add("active_streams", {}, 1);
  try {
    yield [startedEvent(turn)];
    deps.running.setGenerating(turn.id, true);
    const generated = generateSafely(deps, turn, cancellation);
    const log = isResumable(turn) ? createLog(deps, turn) : null;
    const terminal = yield* log === null ? generated : throughLog(log, generated);
    deps.running.setGenerating(turn.id, false);
    clearTimeout(deadline);
    const tail = log === null ? null : await log.close();
    const appended = log?.take() ?? [];
    if (appended.length > 0) yield appended;
    const finalized = await finalizeTurn(deps, turn, terminal, tail);
    if (log !== null) deps.readers.appended(turn.id);
    yield await closingEvents(deps, turn, terminal, finalized);
  } finally {
    if (isResumable(turn)) deps.readers.ended(turn.id);
    clearTimeout(deadline);
    deps.metrics.add("active_streams", {}, -1);
    deps.running.remove(turn.id);
  }
}

const createLog = ({ db, logger, readers }: RunDeps, turn: RunningTurn): TurnLog =>
  new TurnLog(
    { db, logger, appended: (turnId) => readers.appended(turnId) },
    { id: turn.id, tenantId: turn.actor.tenantId },
  );

/** As `generate`; whatever breaks, the turn ends and is settled. */
async function* generateSafely(
  deps: RunDeps,
  turn: RunningTurn,
  cancellation: Cancellation,
): AsyncGenerator<readonly StreamEvent[], Terminal, void> {
  const { db, logger, metrics } = deps;
  const toolCalls = createToolCallWriter(
    (calls) => countToolCalls(db, turn.actor.tenantId, turn.id, calls),
    (error) => logger.warn({ err: error, turn_id: turn.id }, "tool counter write failed"),
  );
  try {
    const adapter = asking(deps, turn);
    return yield* generate({ adapter, metrics, logger, countToolCalls: toolCalls }, turn, cancellation);
  } catch (error) {
    logger.error({ err: error, turn_id: turn.id }, "a turn broke off");
    return brokenTerminal(error);
  }
}

/** The provider, behind the search that is ours to do. */
const asking = (deps: RunDeps, turn: RunningTurn): Pick<LlmProvider, "stream"> => {
  const adapter = deps.adapterOf(turn.target);
  const { search } = turn;
  return search === null ? adapter : searchingHere(deps, adapter, { ...turn, search });
};
