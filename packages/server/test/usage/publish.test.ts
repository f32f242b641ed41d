import { describe, expect, it } from "vitest";
import { done, type Message } from "../../src/outbox/message.ts";
import { PublishError } from "../../src/outbox/sink.ts";
import { turnUsageEvent, type UsageEvent } from "../../src/usage/event.ts";
import { type UsagePublisher, usagePluginHandler } from "../../src/usage/publish.ts";
import { handlerContext, messageOf } from "../outbox/support.ts";
import { completedTurn } from "./samples.ts";

const event = turnUsageEvent(completedTurn);

const handle = (publishUsage: UsagePublisher["publishUsage"], message: Message, ms?: number) =>
  usagePluginHandler(() => ({ publishUsage }))([message], handlerContext(ms));

const refuse = (error: unknown) => async (): Promise<void> => {
  throw error;
};

describe("usage publisher (outbox.md §10)", () => {
  it("hands over the event as it was enqueued", async () => {
    const published: UsageEvent[] = [];
    const verdicts = await handle(async (one) => void published.push(one), messageOf(event));
    expect(verdicts).toEqual([done]);
    expect(published).toEqual([event]);
  });

  it.each([
    ["transient", new PublishError("transient", "busy"), { kind: "retry", error: "busy" }],
    [
      "permanent",
      new PublishError("permanent", "no such tenant"),
      { kind: "reject", reason: "no such tenant" },
    ],
    ["of a plugin", Object.assign(new Error("x"), { kind: "permanent" }), { kind: "reject", reason: "x" }],
    ["of any other kind", new TypeError("oops"), { kind: "retry", error: "oops" }],
    ["that is no error", "a string", { kind: "retry", error: "a string" }],
    ["that is nothing", undefined, { kind: "retry", error: "undefined" }],
  ])("answers a failure %s", async (_name, error, verdict) => {
    expect(await handle(refuse(error), messageOf(event))).toEqual([verdict]);
  });

  it("waits for a publisher that is not there yet", async () => {
    const verdicts = await usagePluginHandler(() => null)([messageOf(event)], handlerContext());
    expect(verdicts).toMatchObject([{ kind: "retry" }]);
  });

  it("retries what does not answer in the time the lease leaves", async () => {
    const verdicts = await handle(() => new Promise(() => {}), messageOf(event), 600);
    expect(verdicts).toMatchObject([{ kind: "retry", error: expect.stringMatching(/^timed out after/) }]);
  });

  it.each([
    ["not JSON", "planted text", "not JSON"],
    ["a missing key", JSON.stringify({ ...event, tenant_id: undefined }), "tenant_id: "],
    ["a wrong type", JSON.stringify({ ...event, actual_credits_micro: "planted" }), "actual_credits_micro: "],
  ])("rejects %s at once, and repeats nothing of it", async (_name, payload, text) => {
    const [verdict] = await handle(refuse(new Error("unreachable")), messageOf(payload));
    expect(verdict).toMatchObject({
      kind: "reject",
      reason: expect.stringContaining(`deserialization failed: ${text}`),
    });
    expect(JSON.stringify(verdict)).not.toContain("planted");
  });

  it.each([
    ["billing_outcome", { billing_outcome: "gifted" }],
    ["completion_signal.reason", { completion_signal: { kind: "incomplete", reason: "tired" } }],
  ])("leaves an unknown %s to a newer program for ten minutes, without counting", async (path, change) => {
    const message = messageOf({ ...event, ...change });
    const unreachable = refuse(new Error("unreachable"));
    const text = expect.stringContaining(`unknown ${path} `);
    for (const ageMs of [0, 599_999]) {
      expect(await handle(unreachable, { ...message, ageMs })).toMatchObject([
        { kind: "retry", error: text, counted: false },
      ]);
    }
    expect(await handle(unreachable, { ...message, ageMs: 600_000 })).toMatchObject([
      { kind: "reject", reason: text },
    ]);
  });
});
