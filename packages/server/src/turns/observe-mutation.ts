import type { Actor } from "../auth/actor.ts";
import { AppError } from "../errors.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { NamedTurn } from "./retire.ts";

interface ObserveDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
}

const resultOf = (error: unknown) => {
  const code = error instanceof AppError ? error.code : undefined;
  switch (code) {
    case "not_latest_turn":
      return "not_latest";
    case "invalid_turn_state":
      return "invalid_state";
    case "forbidden":
    case "generation_in_progress":
      return code;
    default:
      return "error";
  }
};

/**
 * Runs the part of a retry, edit or delete that ends with its commit, with its metrics and its log line
 * (ops.md §5–6). `told` names what the line says of the outcome beyond the turn that was named.
 */
export const observed = async <T>(
  { metrics, logger }: ObserveDeps,
  of: { readonly actor: Actor; readonly named: NamedTurn; readonly traceId: string },
  work: () => Promise<T>,
  told: (outcome: T) => object,
): Promise<T> => {
  const { actor, named, traceId } = of;
  const { op } = named;
  const startedAt = performance.now();
  try {
    const outcome = await work();
    metrics.count("turn_mutation", { op, result: "ok" });
    logger.info(
      {
        tenant_id: actor.tenantId,
        user_id: actor.userId,
        requester_type: actor.subjectType,
        chat_id: named.chatId,
        request_id: named.requestId,
        ...told(outcome),
        trace_id: traceId,
        processing_stage: "mutation",
        op,
        status: "ok",
        duration_ms: Math.round(performance.now() - startedAt),
      },
      op === "delete" ? "turn deleted" : "turn replaced",
    );
    return outcome;
  } catch (error) {
    metrics.count("turn_mutation", { op, result: resultOf(error) });
    throw error;
  } finally {
    metrics.observe("turn_mutation_latency_ms", { op }, performance.now() - startedAt);
  }
};
