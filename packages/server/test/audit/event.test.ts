import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { erasureAuditEvent } from "../../src/audit/erasure.ts";
import {
  type AuditEnvelope,
  deleteAuditEvent,
  maxEnvelopeBytes,
  mutationAuditEvent,
  type TurnAudit,
  turnAuditEvent,
} from "../../src/audit/event.ts";
import { readAuditEvent } from "../../src/audit/read.ts";
import { UnknownEventError, UnreadableEventError } from "../../src/outbox/wire.ts";
import { completedTurn, deletion, erasure, retry } from "./samples.ts";

const golden = (name: string): string =>
  readFileSync(new URL(`golden/${name}.json`, import.meta.url), "utf8");
const compact = (json: string): string => JSON.stringify(JSON.parse(json));
const turn = (change: Partial<TurnAudit>) => turnAuditEvent({ ...completedTurn, ...change });

/** Every shape of outbox.md §4.4, by the file that shows it. */
const shapes: Record<string, AuditEnvelope> = {
  "turn-completed": turnAuditEvent(completedTurn),
  "turn-downgraded": turn({
    effectiveModel: "gpt-standard",
    quota: {
      decision: "downgrade",
      downgrade_from: "gpt-premium",
      downgrade_reason: "premium_quota_exhausted",
    },
    license: { feature: "ai_chat", decision: "allow" },
    fileSearchCalls: 2,
    webSearchCalls: 1,
  }),
  "turn-failed": turn({ state: "failed", errorCode: "provider_timeout", usage: null }),
  "turn-cancelled": turn({ state: "cancelled", latency: { totalMs: 99 } }),
  "turn-orphan": turn({
    state: "failed",
    errorCode: "orphan_timeout",
    usage: null,
    latency: {},
    quota: { decision: "unknown" },
    traceId: undefined,
    userId: null,
    policyVersionApplied: null,
  }),
  "turn-with-content": turn({
    prompt: "my password=hunter2 and more",
    response: "use Bearer abc.def",
    attachments: [
      {
        attachment_id: "88888888-8888-4888-8888-888888888888",
        attachment_kind: "document",
        filename: "report.pdf",
        content_type: "application/pdf",
        size_bytes: 1024,
        doc_summary: "A report.",
      },
      {
        attachment_id: "99999999-9999-4999-8999-999999999999",
        attachment_kind: "image",
        image_used_in_turn: true,
      },
    ],
  }),
  "turn-retry": mutationAuditEvent(retry),
  "turn-edit": mutationAuditEvent({ ...retry, eventType: "turn_edit", traceId: undefined }),
  "turn-delete": deleteAuditEvent(deletion),
  "chat-provider-data-erased": erasureAuditEvent(erasure),
};

describe("audit event (outbox.md §4.4)", () => {
  it.each(Object.keys(shapes))("is written as in golden/%s.json, keys in order", (name) => {
    expect(JSON.stringify(shapes[name])).toBe(compact(golden(name)));
  });

  it.each(Object.keys(shapes))("reads golden/%s.json back", (name) => {
    expect(readAuditEvent(golden(name))).toEqual(shapes[name]);
  });

  it("has no provider identifier in any shape", () => {
    expect(JSON.stringify(Object.values(shapes))).not.toMatch(
      /provider_(response|file|request)_id|vector_store/,
    );
  });

  const changed = (change: object): string =>
    JSON.stringify({ ...JSON.parse(golden("turn-completed")), ...change });

  it.each([
    [{ type: "export" }, "unknown type export"],
    [{ event_type: "turn_forked" }, "unknown event_type turn_forked"],
    [{ type: "my secret is out" }, "unknown type"],
  ])("takes %j for the word of a newer program", (change, text) => {
    expect(() => readAuditEvent(changed(change))).toThrow(new UnknownEventError(text));
  });

  it.each([
    ["a wrong type", changed({ chat_id: 5 }), /^chat_id: /],
    ["a wrong type besides an unknown value", changed({ event_type: "turn_forked", chat_id: 5 }), /: /],
    ["a type that is no text", changed({ type: 5 }), /^type: /],
    ["a missing key", changed({ usage: undefined }), /^usage: /],
    ["text that is not JSON", "my secret", /^not JSON$/],
  ])("cannot read %s", (_name, payload, text) => {
    expect(() => readAuditEvent(payload)).toThrow(UnreadableEventError);
    expect(() => readAuditEvent(payload)).toThrow(text);
  });
});

describe("fit rule of an audit event (outbox.md §4.5)", () => {
  const bytes = (event: AuditEnvelope): number => Buffer.byteLength(JSON.stringify(event));
  // Control characters take six bytes each in JSON: 8192 bytes of text become 49,152.
  const dense = "\u0001".repeat(9_000);
  const summaries = (count: number, text: string) =>
    Array.from({ length: count }, (_, at) => ({
      attachment_id: `88888888-8888-4888-8888-${String(at).padStart(12, "0")}`,
      attachment_kind: "document" as const,
      doc_summary: text,
    }));

  it("drops the response first", () => {
    const event = turn({ prompt: dense, response: dense });
    expect(event).toHaveProperty("prompt");
    expect(event).not.toHaveProperty("response");
    expect(bytes(event)).toBeLessThanOrEqual(maxEnvelopeBytes);
  });

  it("then the prompt, then the document summaries", () => {
    const event = turn({ prompt: dense, response: dense, attachments: summaries(3, dense) });
    expect(event).not.toHaveProperty("response");
    expect(event).not.toHaveProperty("prompt");
    expect(event.attachments).toHaveLength(3);
    expect(event.attachments?.[0]).not.toHaveProperty("doc_summary");
    expect(bytes(event)).toBeLessThanOrEqual(maxEnvelopeBytes);
  });

  it("then the attachment list", () => {
    const event = turn({ prompt: "p", attachments: summaries(2_000, "s") });
    expect(event).not.toHaveProperty("attachments");
    expect(bytes(event)).toBeLessThanOrEqual(maxEnvelopeBytes);
  });

  it("leaves a small event alone", () => {
    expect(turn({ prompt: "p", response: "r" })).toMatchObject({ prompt: "p", response: "r" });
  });
});
