import { describe, expect, it } from "vitest";
import type { Message, Verdict } from "../../src/outbox/message.ts";
import { handedOver } from "../../src/outbox/run.ts";
import { settlementOf } from "../../src/outbox/settle.ts";

const message = (id: number, orderKey: string, change: Partial<Message> = {}): Message => ({
  partitionId: 1,
  id: BigInt(id),
  messageId: `m${id}`,
  tenantId: orderKey,
  orderKey,
  kind: "usage",
  payload: "{}",
  trace: null,
  ageMs: 0,
  attempts: 1,
  parked: false,
  ...change,
});

const done: Verdict = { kind: "done" };
const retry: Verdict = { kind: "retry", error: "down" };
const reject: Verdict = { kind: "reject", reason: "bad" };

const settled = (
  policy: "block" | "park_key",
  messages: Message[],
  verdicts: (Verdict | undefined)[],
  maxAttempts = Number.POSITIVE_INFINITY,
) =>
  settlementOf({ partitionId: 1, token: "t", messages }, verdicts, {
    policy,
    maxAttempts,
    backoff: (attempts) => attempts * 1_000,
  });

describe("acknowledgement of a block partition", () => {
  const batch = [message(1, "a"), message(2, "b"), message(3, "a")];

  it("deletes everything when all is done", () => {
    expect(settled("block", batch, [done, { kind: "already_terminal" }, done])).toMatchObject({
      done: [1n, 2n, 3n],
      delayMs: null,
      head: null,
    });
  });

  it("keeps everything behind a retry and remembers the attempts of the new head", () => {
    expect(settled("block", batch, [done, retry, done])).toMatchObject({
      done: [1n],
      head: { id: 2n, attempts: 1 },
      delayMs: 1_000,
      error: "down",
    });
  });

  it("isolates a rejected message", () => {
    const settlement = settled("block", batch, [done, reject, done]);
    expect(settlement).toMatchObject({ done: [1n, 3n], dead: [{ id: 2n, attempts: 1, error: "bad" }] });
  });

  it("gives back the attempt of a head that was not attempted", () => {
    const head = [message(1, "a", { attempts: 3 })];
    expect(settled("block", head, [])).toMatchObject({
      done: [],
      head: { id: 1n, attempts: 2 },
      delayMs: null,
    });
  });

  it("turns the last retry into a dead letter", () => {
    const head = [message(1, "a", { attempts: 5 }), message(2, "a")];
    expect(settled("block", head, [retry, done], 5)).toMatchObject({
      done: [2n],
      dead: [{ id: 1n, attempts: 5, error: "max attempts (5) reached: down" }],
    });
  });

  it("takes the delay a verdict asks for", () => {
    expect(settled("block", batch, [{ ...retry, afterMs: 7 }]).delayMs).toBe(7);
  });
});

describe("acknowledgement of a park_key partition", () => {
  it("parks only the failing key", () => {
    const batch = [message(1, "a"), message(2, "b"), message(3, "a"), message(4, "b")];
    expect(settled("park_key", batch, [retry, done, done, done])).toMatchObject({
      done: [2n, 4n],
      parked: [{ orderKey: "a", delayMs: 1_000, attempts: 1, error: "down" }],
      delayMs: null,
    });
  });

  it("keeps the later messages of a key that was not attempted", () => {
    const batch = [message(1, "a"), message(2, "b"), message(3, "a")];
    expect(settled("park_key", batch, [undefined, done, done])).toMatchObject({
      done: [2n],
      parked: [],
      head: { id: 1n, attempts: 0 },
    });
  });

  it("resumes a parked key that got through", () => {
    const batch = [message(1, "a", { parked: true, attempts: 4 }), message(2, "b")];
    expect(settled("park_key", batch, [done, done])).toMatchObject({ done: [1n, 2n], resumed: ["a"] });
  });

  it("resumes a parked key whose message was given up", () => {
    const batch = [message(1, "a", { parked: true, attempts: 5 })];
    expect(settled("park_key", batch, [retry], 5)).toMatchObject({
      dead: [{ id: 1n }],
      resumed: ["a"],
      parked: [],
    });
  });

  it("parks a parked key again with its attempts raised", () => {
    const batch = [message(1, "a", { parked: true, attempts: 4 })];
    expect(settled("park_key", batch, [retry]).parked).toEqual([
      { orderKey: "a", delayMs: 4_000, attempts: 4, error: "down" },
    ]);
  });

  it("gives back the attempt of a parked key that was not attempted", () => {
    const batch = [message(1, "a", { parked: true, attempts: 4 })];
    expect(settled("park_key", batch, []).parked).toEqual([
      { orderKey: "a", delayMs: 0, attempts: 3, error: null },
    ]);
  });

  it("stores no NUL and no endless error", () => {
    const { error } = settled(
      "park_key",
      [message(1, "a")],
      [{ kind: "retry", error: `a\0b${"x".repeat(9_000)}` }],
    );
    expect(error).toHaveLength(2_000);
    expect(error).toContain("ab");
  });
});

describe("what was claimed and not handed over", () => {
  const undone: undefined[] = [undefined, undefined];

  it("gives back the attempt of a waiting key, which its claim had counted", () => {
    const batch = [message(1, "a"), message(2, "b", { parked: true, attempts: 4 })];
    expect(settled("park_key", batch, [done, undefined])).toMatchObject({
      done: [1n],
      parked: [{ orderKey: "b", delayMs: 0, attempts: 3, error: null }],
      resumed: [],
    });
  });

  it("does not hold back a key whose probe was delivered", () => {
    const batch = [1, 2, 3].map((id) => message(id, "a", { parked: true, attempts: 4 }));
    expect(settled("park_key", batch, [done, ...undone])).toMatchObject({
      done: [1n],
      parked: [],
      resumed: ["a"],
    });
  });

  it("does not free a key whose probe failed", () => {
    const batch = [1, 2, 3].map((id) => message(id, "a", { parked: true, attempts: 4 }));
    expect(settled("park_key", batch, [retry, ...undone])).toMatchObject({
      done: [],
      parked: [{ orderKey: "a", delayMs: 4_000, attempts: 4, error: "down" }],
      resumed: [],
    });
  });
});

describe.each(["block", "park_key"] as const)("a retry in a %s queue", (policy) => {
  const delayOf = (verdict: Verdict): number | null | undefined => {
    const { delayMs, parked } = settled(policy, [message(1, "a", { attempts: 3 })], [verdict]);
    return policy === "block" ? delayMs : parked[0]?.delayMs;
  };

  it.each([
    ["less than nothing", -5, 0],
    ["longer than a day", 1e12, 86_400_000],
    ["for ever", Number.POSITIVE_INFINITY, 3_000],
    ["not a number", Number.NaN, 3_000],
  ])("bounds a delay of %s", (_name, afterMs, expected) => {
    expect(delayOf({ ...retry, afterMs })).toBe(expected);
  });

  it("that does not count never becomes a dead letter and gives back its attempt", () => {
    const settlement = settled(
      policy,
      [message(1, "a", { attempts: 5 })],
      [{ ...retry, counted: false, afterMs: 10 }],
      5,
    );
    expect(settlement.dead).toEqual([]);
    const waiting = policy === "block" ? settlement.head : settlement.parked[0];
    expect(waiting).toMatchObject({ attempts: 4 });
  });
});

describe("what a handler is given of a claim", () => {
  it("sends one message of a key that had failed, as a probe", () => {
    const claimed = [message(1, "a", { parked: true }), message(2, "a", { parked: true }), message(3, "b")];
    expect(handedOver(claimed, 10)).toEqual([0, 2]);
  });

  it("stops at the limit of a key that had failed, and goes on with the others", () => {
    const claimed = [message(1, "a"), message(2, "a"), message(3, "a"), message(4, "b"), message(5, "b")];
    const limitOf = (key: string): number => (key === "a" ? 2 : Number.POSITIVE_INFINITY);
    expect(handedOver(claimed, 10, limitOf)).toEqual([0, 1, 3, 4]);
  });

  it("stops at the limit of a partition that had failed", () => {
    expect(handedOver([message(1, "a"), message(2, "b")], 1)).toEqual([0]);
  });
});
