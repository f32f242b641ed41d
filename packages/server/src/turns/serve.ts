import type { FastifyReply } from "fastify";
import { AppError, shuttingDown } from "../errors.ts";
import { openSse, type SseWriter } from "../http/sse.ts";
import type { Preflight } from "./preflight.ts";
import { type RelayDeps, relay } from "./relay.ts";
import { type ReserveDeps, type Reserved, reserve } from "./reserve.ts";
import { type RunDeps, runTurn } from "./run.ts";

export interface ServeDeps extends ReserveDeps, RunDeps, RelayDeps {
  /** `streaming.sse_ping_interval_seconds` and `slow_client_timeout_secs` in milliseconds. */
  readonly silenceMs: number;
  readonly stalledMs: number;
  /** `streaming.max_active_streams`; 0 = no limit. */
  readonly maxActiveStreams: number;
}

export type Running = Extract<Reserved, { kind: "running" }>;
export type Begun = Running | Extract<Preflight, { kind: "replay" }>;

/** Everything before the stream: the reads, then the transaction. A shutdown waits for it. */
export const begin = async (deps: ServeDeps, reads: () => Promise<Preflight>): Promise<Begun> => {
  const decided = deps.running.expect();
  try {
    const found = await reads();
    if (found.kind === "replay") return found;
    if (deps.running.stopped !== null) throw shuttingDown();
    if (deps.maxActiveStreams > 0 && deps.running.size >= deps.maxActiveStreams) {
      throw new AppError("service_unavailable", {
        detail: "Too many answers are being generated.",
        headers: { "retry-after": "5" },
      });
    }
    const reserved = await reserve(deps, found.plan);
    return reserved.kind === "replay" ? { ...reserved, selectedModel: found.plan.selectedModel } : reserved;
  } finally {
    decided();
  }
};

/** Runs the turn to its end for the client of this reply; resolves when the response is done with. */
export const serveTurn = async (
  deps: ServeDeps,
  reply: FastifyReply,
  { turn, cancellation }: Running,
): Promise<void> => {
  const open = (onSilence: () => void): SseWriter =>
    openSse(reply, { silenceMs: deps.silenceMs, stalledMs: deps.stalledMs, onSilence });
  await relay(deps, turn, runTurn(deps, turn, cancellation), open, cancellation);
};
