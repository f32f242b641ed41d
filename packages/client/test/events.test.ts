import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readAuditEvent } from "../../server/src/audit/read.ts";
import { signatureHeader as sentHeader, signatureOf } from "../../server/src/outbox/signature.ts";
import { readUsageEvent } from "../../server/src/usage/event.ts";
import {
  createDeduplicator,
  eventKey,
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

/** Every payload the server is known to write, by the name of its golden file. */
const golden = (slice: "usage" | "audit"): [string, string][] => {
  const directory = new URL(`../../server/test/${slice}/golden/`, import.meta.url);
  return readdirSync(directory).map((name) => [name, readFileSync(new URL(name, directory), "utf8")]);
};

/** Without keys that hold undefined, which JSON does not know. */
const plain = (value: object): unknown => JSON.parse(JSON.stringify(value));

const withoutEmpty = (text: string): string =>
  JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(text)).filter(([, value]) => value !== null)));

describe("events", () => {
  it.each(golden("usage"))("of %s are read as the server reads them", (_name, text) => {
    expect(parseUsageEvent(text)).toEqual(plain(readUsageEvent(text)));
    expect(parseUsageEvent(withoutEmpty(text))).toEqual(parseUsageEvent(text));
  });

  it.each(golden("audit"))("of %s are read as the server reads them", (_name, text) => {
    expect(parseAuditEvent(text)).toEqual(plain(readAuditEvent(text)));
  });

  it("are read with what was left out as empty, and unknown fields kept", () => {
    expect(parseUsageEvent(JSON.stringify({ ...usage, later: 1 }))).toEqual({
      ...usage,
      usage: null,
      requester_type: "user",
      overshoot_capped: false,
      reserved_credits_micro: 0,
      file_search_calls: 0,
      error_code: null,
      completion_signal: null,
      later: 1,
    });
  });

  const audit = Object.fromEntries(golden("audit").map(([name, text]) => [name, JSON.parse(text)]));
  const turn = audit["turn-completed.json"];
  const usageWith = (change: object) => () => parseUsageEvent(JSON.stringify({ ...usage, ...change }));
  const turnWith = (change: object) => () => parseAuditEvent(JSON.stringify({ ...turn, ...change }));

  it.each([
    [() => parseUsageEvent("{"), "unreadable", "body"],
    [() => parseUsageEvent("[]"), "unreadable", "body"],
    [() => parseAuditEvent("null"), "unreadable", "body"],
    [usageWith({ tenant_id: "x" }), "unreadable", "tenant_id"],
    [usageWith({ tenant_id: null }), "unreadable", "tenant_id"],
    [usageWith({ actual_credits_micro: 1.5 }), "unreadable", "actual_credits_micro"],
    [usageWith({ web_search_calls: -1 }), "unreadable", "web_search_calls"],
    [usageWith({ usage: { input_tokens: 1 } }), "unreadable", "usage"],
    [usageWith({ terminal_state: 5 }), "unreadable", "terminal_state"],
    [usageWith({ terminal_state: "paused" }), "unknown", "terminal_state"],
    [usageWith({ terminal_state: "paused", chat_id: 5 }), "unreadable", "chat_id"],
    [usageWith({ completion_signal: { kind: "incomplete", reason: "x" } }), "unknown", "completion_signal"],
    [turnWith({ type: "export" }), "unknown", "type"],
    [turnWith({ event_type: "turn_forked" }), "unknown", "event_type"],
    [turnWith({ request_id: undefined }), "unreadable", "request_id"],
    [turnWith({ attachments: [{ attachment_id: "x" }] }), "unreadable", "attachments"],
    [turnWith({ attachments: {} }), "unreadable", "attachments"],
  ])("that cannot be taken are told apart and say where: %#", (read, kind, field) => {
    expect(read).toThrow(expect.objectContaining({ name: "EventError", kind, field }));
  });

  it("have a key of their own each, made of their ids alone", () => {
    const keyed = { ...usage, turn_id: "11111111-1111-4111-8111-111111111114", dedupe_key: "a/b/c" };
    expect(eventKey(parseUsageEvent(JSON.stringify(keyed)))).toBe("a/b/c");
    expect(eventKey(parseUsageEvent(JSON.stringify({ ...keyed, dedupe_key: undefined })))).toBe(
      [1, 4, 3].map((last) => `1111111111114111811111111111111${last}`).join("/"),
    );
    const keys = [
      "turn-completed.json",
      "turn-retry.json",
      "turn-edit.json",
      "turn-delete.json",
      "chat-provider-data-erased.json",
    ].map((name) => eventKey(parseAuditEvent(JSON.stringify(audit[name]))));
    expect(new Set(keys).size).toBe(5);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}\/turn_completed\/[0-9a-f]{32}\/[0-9a-f]{32}$/);
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

  it("never tells a repeat that its event was taken before it was", async () => {
    const { once } = createDeduplicator(memoryKeys());
    const first = Promise.withResolvers<void>();
    const told: string[] = [];
    const calls = [
      once("a", () => first.promise).then(
        () => told.push("first"),
        () => told.push("first failed"),
      ),
      once("a", async () => void told.push("second takes it")).then((ran) => told.push(`second ${ran}`)),
      once("a", async () => void told.push("third takes it")).then((ran) => told.push(`third ${ran}`)),
    ];
    await once("b", async () => {});
    expect(told).toEqual([]);
    first.reject(new Error("down"));
    await Promise.all(calls);
    expect(told[0]).toBe("first failed");
    expect(told.slice(1).sort()).toEqual(["second takes it", "second true", "third false"]);
  });

  it("takes an event again that could not be taken", async () => {
    const { once } = createDeduplicator(memoryKeys());
    await expect(once("a", () => Promise.reject(new Error("down")))).rejects.toThrow("down");
    expect(await once("a", async () => {})).toBe(true);
  });

  it("forgets the key beyond its capacity that was not seen for longest", async () => {
    const { once } = createDeduplicator(memoryKeys({ capacity: 2 }));
    const seen: boolean[] = [];
    for (const key of ["a", "b", "a", "c", "a", "b"]) seen.push(!(await once(key, async () => {})));
    expect(seen).toEqual([false, false, true, false, true, false]);
  });

  it("gives what its store gives to whoever takes the event", async () => {
    const { once } = createDeduplicator<string>({
      once: (_key, take) => take("a transaction").then(() => true),
    });
    const given: string[] = [];
    await once("a", async (context) => void given.push(context));
    expect(given).toEqual(["a transaction"]);
  });
});
