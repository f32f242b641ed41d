import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { perMessage } from "../outbox/run.ts";
import { failureVerdict, type Sink, sinkHandler } from "../outbox/sink.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";
import { type Metrics, noMetrics } from "../telemetry/metrics.ts";
import type { AuditEnvelope } from "./event.ts";
import { readAuditEvent } from "./read.ts";

/** Where an embedding program takes audit events itself (policy.md §13); throws an error with `kind`. */
export interface AuditPlugin {
  emitTurnAudit(event: AuditEnvelope & { type: "turn" }, signal?: AbortSignal): Promise<void>;
  emitTurnRetryAudit(event: AuditEnvelope & { type: "mutation" }, signal?: AbortSignal): Promise<void>;
  emitTurnEditAudit(event: AuditEnvelope & { type: "mutation" }, signal?: AbortSignal): Promise<void>;
  emitTurnDeleteAudit(event: AuditEnvelope & { type: "delete" }, signal?: AbortSignal): Promise<void>;
  /** Receipts of erasures; without it they are taken for delivered. */
  emitErasureAudit?(event: AuditEnvelope & { type: "erasure" }, signal?: AbortSignal): Promise<void>;
}

// policy.md §13: 30 s each, then it counts as transient.
const limits = { concurrency: 8, maxMs: 30_000, reserveMs: 500 } as const;

/**
 * The handler of the audit queue that dispatches to a plugin (outbox.md §10). `plugin()` returns null
 * while none is registered: the events wait, they are never taken for delivered.
 */
export const auditPluginHandler = (
  plugin: () => AuditPlugin | null,
  metrics: Metrics = noMetrics,
): QueueHandler =>
  counted(
    metrics,
    perMessage(async (message, signal) => {
      const event = read(message);
      if ("kind" in event) return event;
      const target = plugin();
      if (target === null) return { kind: "retry", error: "no audit plugin is registered" };
      try {
        await emit(target, event, signal);
        return done;
      } catch (error) {
        if (signal.aborted) throw error;
        return failureVerdict(error);
      }
    }, limits),
  );

const emit = async (plugin: AuditPlugin, event: AuditEnvelope, signal: AbortSignal): Promise<void> => {
  switch (event.type) {
    case "turn":
      return plugin.emitTurnAudit(event, signal);
    case "mutation":
      return event.event_type === "turn_retry"
        ? plugin.emitTurnRetryAudit(event, signal)
        : plugin.emitTurnEditAudit(event, signal);
    case "delete":
      return plugin.emitTurnDeleteAudit(event, signal);
    case "erasure":
      return plugin.emitErasureAudit?.(event, signal);
  }
};

/** The handler of the audit queue that publishes to a sink, with the message id as idempotency key. */
export const auditSinkHandler = (sink: Sink, metrics: Metrics = noMetrics): QueueHandler =>
  counted(
    metrics,
    sinkHandler(
      sink,
      (message) => {
        const event = read(message);
        if ("kind" in event) return event;
        return {
          queue: "audit",
          idempotencyKey: message.messageId,
          messageId: message.messageId,
          tenantId: message.tenantId,
          payload: message.payload,
          trace: message.trace,
        };
      },
      limits,
    ),
  );

/** The handler where auditing is switched off by configuration: events are acknowledged and counted. */
export const auditDisabledHandler =
  (metrics: Metrics = noMetrics): QueueHandler =>
  async (messages) => {
    metrics.count("audit_emit", { result: "skipped" }, messages.length);
    return messages.map(() => done);
  };

const read = (message: Message): AuditEnvelope | Verdict => {
  try {
    return readAuditEvent(message.payload);
  } catch (error) {
    return unreadableVerdict(error, message);
  }
};

const results = { done: "ok", already_terminal: "ok", retry: "retry", reject: "reject" } as const;

/** Counts `audit_emit` by verdict, at delivery only. */
const counted =
  (metrics: Metrics, handler: QueueHandler): QueueHandler =>
  async (messages, context) => {
    const verdicts = await handler(messages, context);
    for (const verdict of verdicts) {
      if (verdict !== undefined) metrics.count("audit_emit", { result: results[verdict.kind] });
    }
    return verdicts;
  };
