import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { perMessage } from "../outbox/run.ts";
import { failureVerdict, type Sink, sinkHandler } from "../outbox/sink.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";
import { readUsageEvent, type UsageEvent } from "./event.ts";

/** The part of a policy plugin that takes usage (policy.md §10); throws `PublishError`. */
export interface UsagePublisher {
  publishUsage(event: UsageEvent, signal?: AbortSignal): Promise<void>;
}

// outbox.md §10: what remains of the lease less 500 ms, at most 27.5 s.
const limits = { concurrency: 8, maxMs: 27_500, reserveMs: 500 } as const;

/**
 * The handler of the usage queue (outbox.md §10): hands every event to the policy plugin, unchanged.
 * A payload that cannot be read becomes a dead letter; a publisher that is not there yet is a retry.
 */
export const usagePluginHandler = (publisher: () => UsagePublisher | null): QueueHandler =>
  perMessage(async (message, signal) => {
    const event = read(message);
    if ("kind" in event) return event;
    const target = publisher();
    if (target === null) return { kind: "retry", error: "no usage publisher is registered" };
    try {
      await target.publishUsage(event, signal);
      return done;
    } catch (error) {
      if (signal.aborted) throw error;
      return failureVerdict(error);
    }
  }, limits);

/** The handler of the usage queue that publishes to a sink, with the dedupe key as idempotency key. */
export const usageSinkHandler = (sink: Sink): QueueHandler =>
  sinkHandler(
    sink,
    (message) => {
      const event = read(message);
      if ("kind" in event) return event;
      return {
        queue: "usage",
        idempotencyKey: event.dedupe_key ?? message.messageId,
        messageId: message.messageId,
        tenantId: message.tenantId,
        payload: message.payload,
        trace: message.trace,
      };
    },
    limits,
  );

const read = (message: Message): UsageEvent | Verdict => {
  try {
    return readUsageEvent(message.payload);
  } catch (error) {
    return unreadableVerdict(error, message);
  }
};
