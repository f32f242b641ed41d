import type { LlmProvider, ProviderEvent, ProviderOutcome, ToolName } from "../providers/contract.ts";
import { isAbsurdUsage } from "../quota/usage.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { Answer, terminalOf } from "./answer.ts";
import type { Cancellation } from "./cancellation.ts";
import type { StreamEvent } from "./grammar.ts";
import type { RunningTurn } from "./running.ts";
import { createToolClock, type ToolClock } from "./tool-calls.ts";
import { toolDetails } from "./tool-details.ts";
import { abortTrigger, type Terminal, type ToolCounts } from "./turn.ts";

export interface GenerateDeps {
  readonly adapter: Pick<LlmProvider, "stream">;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Persists finished tool calls at once, best effort, for the watchdog (turns.md §8). */
  readonly countToolCalls: (calls: ToolCounts) => void;
}

/** What generating reads of a running turn. */
export interface GeneratingTurn
  extends Pick<RunningTurn, "id" | "target" | "request" | "toolLimits" | "files"> {
  readonly model: Pick<RunningTurn["model"], "id" | "inputMultiplierMicro" | "outputMultiplierMicro">;
}

/**
 * Calls the provider and relays what it says: yields client events batch by batch, as they come off
 * the socket, and returns how the stream ended (turns.md §8). No transaction is in scope, nothing
 * is written but tool counters. The provider is read only as fast as the consumer takes batches.
 */
export async function* generate(
  deps: GenerateDeps,
  turn: GeneratingTurn,
  cancellation: Cancellation,
): AsyncGenerator<readonly StreamEvent[], Terminal, void> {
  const labels = { provider: turn.target.providerId, model: turn.model.id };
  const requestedAt = performance.now();
  const answer = new Answer(turn.toolLimits, requestedAt);
  const clock = createToolClock(deps.metrics, labels);
  const ended = new AbortController();
  let outcome: ProviderOutcome = { kind: "aborted", started: false };
  deps.metrics.count("stream_started", labels);
  try {
    const stream = deps.adapter.stream(turn.request, turn.target, cancellation.signal);
    observeAbort(deps.metrics, cancellation, stream.closed, ended.signal);
    let bytesAfterCancel = 0;
    outcome = { kind: "aborted", started: true };
    for await (const batch of stream) {
      const last = batch.at(-1);
      if (last?.type === "terminal") outcome = last.outcome;
      // Cancellation wins over events that are ready at the same time.
      if (cancellation.reason !== null) {
        bytesAfterCancel += textBytes(batch);
        continue;
      }
      const waiting = !answer.hasContent;
      const receivedAt = performance.now();
      const events = relay(deps, turn, answer, batch, clock);
      const isFirst = waiting && answer.hasContent;
      if (isFirst) deps.metrics.observe("ttft_provider_ms", labels, answer.latency.ttftMs ?? 0);
      if (events.length > 0) yield events;
      if (isFirst) deps.metrics.observe("ttft_overhead_ms", labels, performance.now() - receivedAt);
      if (answer.exceeded !== null) {
        deps.metrics.count("tool_call_limited", { tool: answer.exceeded });
        // Leaving the loop closes the provider's socket.
        break;
      }
    }
    if (cancellation.reason !== null) {
      deps.metrics.observe(
        "tokens_after_cancel",
        { trigger: abortTrigger[cancellation.reason] },
        bytesAfterCancel / 4,
      );
    }
  } catch (error) {
    deps.logger.error({ err: error, turn_id: turn.id }, "provider stream broke its contract");
    outcome = {
      kind: "failed",
      code: "internal_error",
      message: "internal error",
      detail: error instanceof Error ? error.message : String(error),
      usage: null,
      started: true,
    };
  }
  // A cancel that comes from here on finds nothing to stop.
  ended.abort();
  reportAbsurdUsage(deps, turn, outcome);
  return terminalOf(outcome, answer, cancellation.reason);
}

const reportAbsurdUsage = (deps: GenerateDeps, turn: GeneratingTurn, outcome: ProviderOutcome): void => {
  if (outcome.kind === "aborted" || !isAbsurdUsage(outcome.usage)) return;
  deps.metrics.count("credits_overflow");
  deps.logger.critical(
    {
      turn_id: turn.id,
      input_tokens: outcome.usage?.inputTokens,
      output_tokens: outcome.usage?.outputTokens,
      input_multiplier_micro: Number(turn.model.inputMultiplierMicro),
      output_multiplier_micro: Number(turn.model.outputMultiplierMicro),
    },
    "the provider reported impossible usage; the turn is charged as estimated",
  );
};

const relay = (
  deps: GenerateDeps,
  { files, model }: GeneratingTurn,
  answer: Answer,
  batch: readonly ProviderEvent[],
  clock: ToolClock,
): readonly StreamEvent[] => {
  const events: StreamEvent[] = [];
  for (const received of batch) {
    if (received.type === "terminal" || received.type === "skip") continue;
    const event = received.type === "delta" ? storable(received) : received;
    if (!answer.accept(event)) break;
    if (event.type === "delta") {
      events.push({ event: "delta", data: { type: event.kind, content: event.content } });
      continue;
    }
    deps.metrics.count("tool_calls", { tool: event.name, phase: event.phase });
    clock(event.name, event.phase);
    if (event.phase === "done") deps.countToolCalls(oneCall(event.name, deps.metrics, model.id));
    const details = toolDetails(event.details, files);
    events.push({ event: "tool", data: { phase: event.phase, name: event.name, details } });
  }
  return events;
};

type Delta = Extract<ProviderEvent, { type: "delta" }>;

/** U+0000 cannot be stored; what is shown and what is kept are the same text. */
const storable = (delta: Delta): Delta =>
  delta.content.includes("\0") ? { ...delta, content: delta.content.replaceAll("\0", "") } : delta;

const oneCall = (name: ToolName, metrics: Metrics, model: string): ToolCounts => {
  if (name === "code_interpreter") metrics.count("code_interpreter_calls", { model });
  return {
    webSearch: name === "web_search" ? 1 : 0,
    codeInterpreter: name === "code_interpreter" ? 1 : 0,
    fileSearch: name === "file_search" ? 1 : 0,
  };
};

const textBytes = (batch: readonly ProviderEvent[]): number => {
  let bytes = 0;
  for (const event of batch) if (event.type === "delta") bytes += Buffer.byteLength(event.content);
  return bytes;
};

/** Measures signal → provider socket closed, once a cancellation comes (turns.md §21). */
const observeAbort = (
  metrics: Metrics,
  cancellation: Cancellation,
  closed: Promise<void>,
  ended: AbortSignal,
): void => {
  const onAbort = (): void => {
    if (cancellation.reason === null) return;
    const trigger = abortTrigger[cancellation.reason];
    metrics.count("cancel_requested", { trigger });
    void closed.then(() => {
      const elapsed = performance.now() - cancellation.requestedAt;
      metrics.count("cancel_effective", { trigger });
      metrics.observe("time_to_abort_ms", { trigger }, elapsed);
      if (trigger === "disconnect") {
        metrics.observe("time_from_ui_disconnect_to_cancel_ms", { trigger }, elapsed);
      }
    });
  };
  if (cancellation.signal.aborted) onAbort();
  else cancellation.signal.addEventListener("abort", onAbort, { once: true, signal: ended });
};
