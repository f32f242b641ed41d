import { beforeEach, describe, expect, it } from "vitest";
import { createLogSink } from "../../src/outbox/log-sink.ts";
import { done, type Message } from "../../src/outbox/message.ts";
import { type Delivery, PublishError, type Sink, sinkHandler } from "../../src/outbox/sink.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { delivery, never } from "./deliveries.ts";
import { handlerContext, messageOf } from "./support.ts";

describe("log sink (policy.md §13)", () => {
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger(
    { level: "debug", format: "json" },
    { version: "1", instance_id: "i", role: "all" },
    { write: (line) => lines.push(JSON.parse(line)) },
  );
  beforeEach(() => lines.splice(0));

  it("writes one line per event, with its keys and its fields", async () => {
    await createLogSink(logger).publish([delivery(1), delivery(2, { queue: "audit" })], never);
    expect(lines).toMatchObject([
      { level: "info", msg: "usage event", idempotency_key: "key-1", event: { number: 1 } },
      { level: "info", msg: "audit event", idempotency_key: "key-2", event: { number: 2 } },
    ]);
  });

  it("writes at the level it is told", async () => {
    await createLogSink(logger, "debug").publish([delivery(1)], never);
    expect(lines).toMatchObject([{ level: "debug" }]);
  });

  it.each(["warn", "error", "critical"] as const)(
    "writes with log.level %s too: the line is the delivery",
    async (level) => {
      const quiet = createLogger(
        { level, format: "json" },
        { version: "1", instance_id: "i", role: "all" },
        { write: (line) => lines.push(JSON.parse(line)) },
      );
      quiet.info({}, "not written");
      await createLogSink(quiet).publish([delivery(1)], never);
      expect(lines).toMatchObject([{ level: "info", event: { number: 1 } }]);
    },
  );

  it("leaves out what users and models wrote (ops.md §6)", async () => {
    const texts = { prompt: "planted prompt", response: "planted response" };
    const attachments = [{ filename: "planted.pdf", doc_summary: "planted summary" }];
    const payload = JSON.stringify({ number: 1, ...texts, attachments });
    await createLogSink(logger).publish([delivery(1, { payload })], never);
    expect(lines).toMatchObject([{ event: { number: 1 } }]);
    expect(JSON.stringify(lines)).not.toContain("planted");
  });
});

describe("handler of a sink that takes groups", () => {
  const deliveryOf = (message: Message): Delivery =>
    delivery(Number(message.id), { messageId: message.messageId });
  const limits = { concurrency: 4, maxMs: 5_000, reserveMs: 100 };
  const message = (id: number, orderKey: string): Message => messageOf({}, { id: BigInt(id), orderKey });
  const sinkOf = (publish: Sink["publish"]): Sink => ({ grouping: "batch", publish, close: async () => {} });
  const batch = [message(1, "a"), message(2, "b"), message(3, "a"), message(4, "c")];

  it("publishes all in one call", async () => {
    const calls: number[] = [];
    const sink = sinkOf(async (deliveries) => void calls.push(deliveries.length));
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    expect(calls).toEqual([4]);
    expect(verdicts).toEqual([done, done, done, done]);
  });

  it("blames the first of each key when the group fails, as nothing behind it was tried", async () => {
    const sink = sinkOf(() => Promise.reject(new PublishError("transient", "full")));
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    const full = { kind: "retry", error: "full" };
    expect(verdicts).toEqual([full, full, undefined, full]);
  });

  it("finds the one the receiver refuses for good, and delivers the others", async () => {
    const published: string[] = [];
    const sink = sinkOf(async (deliveries) => {
      if (deliveries.some(({ idempotencyKey }) => idempotencyKey === "key-2")) {
        throw new PublishError("permanent", "refused");
      }
      published.push(...deliveries.map(({ idempotencyKey }) => idempotencyKey));
    });
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    expect(verdicts).toEqual([done, { kind: "reject", reason: "refused" }, done, done]);
    expect(published.sort()).toEqual(["key-1", "key-3", "key-4"]);
  });

  it("publishes nothing of a key behind a message that waits, and rejects what cannot be read", async () => {
    const published: string[] = [];
    const sink = sinkOf(async (deliveries) => {
      published.push(...deliveries.map(({ idempotencyKey }) => idempotencyKey));
    });
    const retry = { kind: "retry", error: "unknown", counted: false } as const;
    const reject = { kind: "reject", reason: "unreadable" } as const;
    const prepare = (one: Message) => (one.id === 1n ? retry : one.id === 2n ? reject : deliveryOf(one));
    const verdicts = await sinkHandler(sink, prepare, limits)(batch, handlerContext());
    expect(verdicts).toEqual([retry, reject, undefined, done]);
    expect(published).toEqual(["key-4"]);
  });

  it("counts nothing as a failure when it was cut off", async () => {
    const controller = new AbortController();
    const sink = sinkOf(async () => {
      controller.abort();
      throw new PublishError("transient", "cut off");
    });
    const handling = sinkHandler(
      sink,
      deliveryOf,
      limits,
    )(batch, {
      ...handlerContext(),
      signal: controller.signal,
    });
    await expect(handling).rejects.toThrow("cut off");
  });
});
