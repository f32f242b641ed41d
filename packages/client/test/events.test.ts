import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { signatureHeader as sentHeader, signatureOf } from "../../server/src/outbox/signature.ts";
import {
  createDeduplicator,
  EventError,
  memoryKeys,
  parseAuditEvent,
  parseUsageEvent,
  signatureHeader,
  verifySignature,
} from "../src/events/index.ts";

const secret = "a-shared-secret-of-length";
const now = 1_790_000_000_000;
const body = '{"tenant_id":"ünï"}';
const header = signatureOf(secret, body, now / 1_000);
const verify = (change: Partial<Parameters<typeof verifySignature>[0]> = {}) =>
  verifySignature({ secrets: [secret], header, body, now, ...change });

describe("verifySignature", () => {
  it("accepts what the server sends, as text or bytes", () => {
    expect(signatureHeader).toBe(sentHeader);
    expect(verify()).toBeNull();
    expect(verify({ body: Buffer.from(body) })).toBeNull();
  });

  it("accepts either secret while one replaces another, on both sides", () => {
    expect(verify({ secrets: ["the-next-secret-in-line", secret] })).toBeNull();
    const other = signatureOf("some-other-secret", body, now / 1_000).split(",")[1];
    expect(verify({ header: `${header},${other}` })).toBeNull();
  });

  it.each([
    ["no header", { header: undefined }, "missing"],
    ["an empty header", { header: "" }, "missing"],
    ["no time", { header: header.split(",")[1] }, "malformed"],
    ["no signature", { header: header.split(",")[0] }, "malformed"],
    ["a time that is none", { header: header.replace(/t=\d+/, "t=1e9") }, "malformed"],
    ["another body", { body: `${body} ` }, "mismatch"],
    ["another secret", { secrets: ["another-secret-entirely"] }, "mismatch"],
    ["no secret", { secrets: [] }, "mismatch"],
    ["another time than was signed", { header: header.replace(/t=(\d+)/, "t=1790000001") }, "mismatch"],
    ["a short signature", { header: header.slice(0, -2) }, "mismatch"],
    ["a recording", { now: now + 301_000 }, "expired"],
    ["a time to come", { now: now - 301_000 }, "expired"],
    ["a recording beyond a tolerance of its own", { now: now + 11_000, toleranceSecs: 10 }, "expired"],
  ] as const)("refuses %s", (_name, change, failure) => {
    expect(verify(change)).toBe(failure);
  });

  it("never throws, and never accepts what was not signed", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, two) => {
        if (one === header && two === body) return;
        expect(verify({ header: one, body: two })).not.toBeNull();
      }),
    );
  });
});

const usage = {
  tenant_id: "11111111-1111-4111-8111-111111111111",
  chat_id: "11111111-1111-4111-8111-111111111112",
  request_id: "11111111-1111-4111-8111-111111111113",
  effective_model: "standard",
  selected_model: "standard",
  terminal_state: "completed",
  billing_outcome: "completed",
  settlement_method: "actual",
  actual_credits_micro: 126_510,
  policy_version_applied: 7,
  web_search_calls: 0,
  code_interpreter_calls: 0,
  timestamp: "2026-03-01T10:15:31.000Z",
};

describe("events", () => {
  it("are read with absent fields as null and unknown ones kept", () => {
    expect(parseUsageEvent(JSON.stringify({ ...usage, later: 1 }))).toEqual({
      ...usage,
      usage: null,
      later: 1,
    });
  });

  it.each([
    ["{", "body"],
    ["[]", "body"],
    [JSON.stringify({ ...usage, tenant_id: "x" }), "tenant_id"],
    [JSON.stringify({ ...usage, actual_credits_micro: 1.5 }), "actual_credits_micro"],
    [JSON.stringify({ ...usage, usage: { input_tokens: 1 } }), "usage"],
  ])("that are none are named: %s", (text, field) => {
    expect(() => parseUsageEvent(text)).toThrow(expect.objectContaining({ name: "EventError", field }));
  });

  it("of the audit stream are read the same way", () => {
    const event = {
      type: "delete",
      event_type: "turn_delete",
      tenant_id: usage.tenant_id,
      chat_id: usage.chat_id,
      turn_id: usage.request_id,
      timestamp: usage.timestamp,
      requester_type: "user",
    };
    expect(parseAuditEvent(JSON.stringify(event))).toEqual(event);
    expect(() => parseAuditEvent(JSON.stringify({ ...event, type: 1 }))).toThrow(EventError);
  });
});

describe("createDeduplicator", () => {
  it("takes each key once, also of two that come at the same time", async () => {
    const { once } = createDeduplicator(memoryKeys());
    let taken = 0;
    const take = async (): Promise<void> => {
      taken += 1;
    };
    expect(await Promise.all([once("a", take), once("a", take), once("b", take)])).toEqual([
      true,
      false,
      true,
    ]);
    expect(taken).toBe(2);
  });

  it("takes an event again that could not be taken", async () => {
    const { once } = createDeduplicator(memoryKeys());
    await expect(once("a", () => Promise.reject(new Error("down")))).rejects.toThrow("down");
    expect(await once("a", async () => {})).toBe(true);
  });

  it("forgets the oldest keys beyond its capacity", async () => {
    const keys = memoryKeys({ capacity: 2 });
    for (const key of ["a", "b", "c"]) await keys.add(key);
    expect([await keys.add("c"), await keys.add("b"), await keys.add("a")]).toEqual([false, false, true]);
  });
});
