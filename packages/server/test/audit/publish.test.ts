import { describe, expect, it } from "vitest";
import { erasureAuditEvent } from "../../src/audit/erasure.ts";
import { deleteAuditEvent, mutationAuditEvent, turnAuditEvent } from "../../src/audit/event.ts";
import {
  type AuditPlugin,
  auditDisabledHandler,
  auditPluginHandler,
  auditSinkHandler,
} from "../../src/audit/publish.ts";
import { done } from "../../src/outbox/message.ts";
import type { Delivery } from "../../src/outbox/sink.ts";
import { type Metrics, noMetrics } from "../../src/telemetry/metrics.ts";
import { handlerContext, messageOf } from "../outbox/support.ts";
import { completedTurn, deletion, erasure, retry } from "./samples.ts";

const events = {
  turn: turnAuditEvent(completedTurn),
  failed: turnAuditEvent({ ...completedTurn, state: "failed", errorCode: "provider_error" }),
  retry: mutationAuditEvent(retry),
  edit: mutationAuditEvent({ ...retry, eventType: "turn_edit" }),
  delete: deleteAuditEvent(deletion),
  erasure: erasureAuditEvent(erasure),
};

/** A plugin that names the method called, or fails with the error. */
const pluginOf = (called: string[], error?: unknown): AuditPlugin => {
  const note = (name: string) => async (): Promise<void> => {
    called.push(name);
    if (error !== undefined) throw error;
  };
  return {
    emitTurnAudit: note("turn"),
    emitTurnRetryAudit: note("retry"),
    emitTurnEditAudit: note("edit"),
    emitTurnDeleteAudit: note("delete"),
    emitErasureAudit: note("erasure"),
  };
};

/** Metrics that keep the results of `audit_emit`. */
const countingInto = (results: unknown[]): Metrics => ({
  ...noMetrics,
  count: (name, labels, by = 1) => {
    if (name === "audit_emit") results.push([labels && "result" in labels ? labels.result : null, by]);
  },
});

describe("audit plugin (outbox.md §10, policy.md §13)", () => {
  it.each([
    ["turn", events.turn],
    ["turn", events.failed],
    ["retry", events.retry],
    ["edit", events.edit],
    ["delete", events.delete],
    ["erasure", events.erasure],
  ] as const)("gets a %s event by its own method", async (name, event) => {
    const called: string[] = [];
    const results: unknown[] = [];
    const handler = auditPluginHandler(() => pluginOf(called), countingInto(results));
    expect(await handler([messageOf(event)], handlerContext())).toEqual([done]);
    expect(called).toEqual([name]);
    expect(results).toEqual([["ok", 1]]);
  });

  it("that knows no receipts of erasures is not kept waiting by one", async () => {
    const { emitErasureAudit: _, ...older } = pluginOf([]);
    expect(await auditPluginHandler(() => older)([messageOf(events.erasure)], handlerContext())).toEqual([
      done,
    ]);
  });

  it.each([
    ["transient", { kind: "transient", message: "busy" }, "retry"],
    ["timeout", { kind: "timeout", message: "slow" }, "retry"],
    ["permanent", { kind: "permanent", message: "bad" }, "reject"],
  ])("that fails with %s", async (_name, { kind, message }, result) => {
    const results: unknown[] = [];
    const plugin = pluginOf([], Object.assign(new Error(message), { kind }));
    const handler = auditPluginHandler(() => plugin, countingInto(results));
    expect(await handler([messageOf(events.turn)], handlerContext())).toMatchObject([{ kind: result }]);
    expect(results).toEqual([[result, 1]]);
  });

  it("that is not registered yet: the events wait, they are never taken for delivered", async () => {
    const handler = auditPluginHandler(() => null);
    expect(await handler([messageOf(events.turn)], handlerContext())).toMatchObject([{ kind: "retry" }]);
  });

  it("never sees what cannot be read, nor an unknown type in its first ten minutes", async () => {
    const called: string[] = [];
    const results: unknown[] = [];
    const handler = auditPluginHandler(() => pluginOf(called), countingInto(results));
    const unknown = { ...events.turn, type: "export" };
    const verdicts = [
      ...(await handler([messageOf("{")], handlerContext())),
      ...(await handler([messageOf(unknown)], handlerContext())),
      ...(await handler([messageOf(unknown, { ageMs: 600_000 })], handlerContext())),
    ];
    expect(verdicts).toMatchObject([
      { kind: "reject", reason: "deserialization failed: not JSON" },
      { kind: "retry", error: "unknown type export", counted: false },
      { kind: "reject", reason: "unknown type export" },
    ]);
    expect(called).toEqual([]);
    expect(results).toEqual([
      ["reject", 1],
      ["retry", 1],
      ["reject", 1],
    ]);
  });
});

describe("audit sink", () => {
  it("gets the payload unchanged, with the message id as idempotency key", async () => {
    const published: Delivery[] = [];
    const handler = auditSinkHandler({
      grouping: "batch",
      publish: async (deliveries) => void published.push(...deliveries),
      close: async () => {},
    });
    const message = messageOf(events.turn, { trace: "0af7651916cd43dd8448eb211c80319c" });
    expect(await handler([message], handlerContext())).toEqual([done]);
    const { messageId, tenantId, payload, trace } = message;
    expect(published).toEqual([
      { queue: "audit", idempotencyKey: messageId, messageId, tenantId, payload, trace },
    ]);
  });
});

describe("auditing that is switched off", () => {
  it("acknowledges and counts as skipped", async () => {
    const results: unknown[] = [];
    const handler = auditDisabledHandler(countingInto(results));
    const messages = [messageOf(events.turn), messageOf(events.delete)];
    expect(await handler(messages, handlerContext())).toEqual([done, done]);
    expect(results).toEqual([["skipped", 2]]);
  });
});
