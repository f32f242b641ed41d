import { describe, expect, it } from "vitest";
import type { Evidence } from "./evidence.ts";
import type { Batch, HandedMessage, Journal } from "./journal.ts";
import { type ChaosOptions, scheduleOf } from "./plan.ts";
import { runChaos } from "./run.ts";
import { judge } from "./verdict.ts";
import { type ChaosKind, fateOf } from "./world.ts";

const options: ChaosOptions = {
  seed: 7,
  seconds: 6,
  workers: 3,
  producers: 2,
  killEveryMs: 600,
  pauseEveryMs: 2_000,
  leaseMs: 2_000,
  restart: "fast",
};

describe("chaos (outbox.md §1, §15)", () => {
  // It brings a server of its own, which it restarts.
  it("kill -9 of workers and producers, a sleeping worker and a database restart break no promise", async () => {
    // Nothing here has to survive the machine.
    const report = await runChaos(options, { fsync: "off", full_page_writes: "off" });
    expect(report).toMatchObject({ ok: true, violations: [], database_restarts: 1 });
    expect(report.killed.workers).toBeGreaterThan(0);
    expect(report.killed.producers).toBeGreaterThan(0);
    expect(report.paused).toBeGreaterThan(0);
    expect(report.committed).toBeGreaterThan(500);
    expect(report.dead).toBeGreaterThan(0);
    expect(report.transactional).toBeGreaterThan(100);
    expect(report.delivered + report.dead).toBe(report.committed);
    expect(report.asked_again).toBeGreaterThan(0);
  }, 120_000);
});

describe("the schedule of a chaos run", () => {
  it("is a function of the seed", () => {
    expect(scheduleOf(options)).toEqual(scheduleOf(options));
    expect(scheduleOf({ ...options, seed: 8 })).not.toEqual(scheduleOf(options));
  });

  it("kills somebody in every interval and restarts the database in the middle", () => {
    const schedule = scheduleOf({ ...options, seconds: 180, killEveryMs: 1_000 });
    const kills = schedule.filter(({ kind }) => kind === "kill");
    expect(kills.map(({ atMs }) => Math.floor(atMs / 1_000))).toEqual(
      Array.from({ length: 180 }, (_, at) => at),
    );
    expect(new Set(kills.map((act) => (act.kind === "kill" ? `${act.role} ${act.place}` : "")))).toEqual(
      new Set(["worker 0", "worker 1", "worker 2", "producer 0", "producer 1"]),
    );
    expect(schedule.filter(({ kind }) => kind === "restart_database")).toEqual([
      { kind: "restart_database", atMs: 90_000 },
    ]);
  });
});

const tenant = "00000000-0000-4000-8000-000000000000";
const leaseMs = 1_000;
const message = (
  number: number,
  change: { messageId?: string; tenant?: string; id?: number } = {},
): HandedMessage => [
  change.tenant ?? tenant,
  number,
  change.id ?? number,
  change.messageId ?? `${change.tenant ?? ""} ${number}`,
  1,
];

const batch = (at: number, messages: readonly HandedMessage[], change: Partial<Batch> = {}): Batch => ({
  process: "worker-0.1",
  kind: "usage",
  at,
  claimedAt: at - 1,
  partition: 1,
  messages,
  end: { at: at + 1, verdicts: "d".repeat(messages.length) },
  ...change,
});

/** A run of one key with `n` committed messages, told by its batches. */
const told = (
  n: number,
  batches: readonly Batch[],
  change: Partial<Omit<Evidence, "journals">> & {
    journals?: readonly Partial<Journal>[];
    kind?: ChaosKind;
  } = {},
): Evidence => {
  const names = [...new Set(batches.map(({ process }) => process))];
  const kind = change.kind ?? "usage";
  return {
    books: { committed: [{ kind, tenantId: tenant, n }], dead: [], effects: [], left: 0 },
    leaseMs,
    crash: null,
    ...change,
    journals: names.map((process) => ({
      process,
      batches: batches.filter((one) => one.process === process),
      lost: [],
      killedAt: null,
      ...change.journals?.find((journal) => journal.process === process),
    })),
  };
};

const other = { process: "worker-1.1" };
const killed = { journals: [{ process: "worker-0.1", killedAt: 20 }] };
const [one, two, three] = [message(1), message(2), message(3)];
const block = { kind: "audit" } as const;

describe("the judge of a chaos run", () => {
  it("is given messages that are fated to be delivered", () => {
    for (const number of [1, 2, 3]) expect(fateOf("usage", tenant, number)).not.toBe("reject");
  });

  const good: [string, Evidence][] = [
    ["all in order", told(3, [batch(10, [one]), batch(20, [two, three])])],
    ["a retry", told(1, [batch(10, [one], { end: { at: 11, verdicts: "r" } }), batch(20, [one], other)])],
    [
      "a kill before the answer",
      told(1, [batch(10, [one], { end: null }), batch(1_200, [one], other)], killed),
    ],
    ["a kill before the acknowledgement", told(1, [batch(10, [one]), batch(1_200, [one], other)], killed)],
    [
      "a lease lost by a process that lived",
      told(1, [batch(10, [one]), batch(1_200, [one], other)], {
        journals: [{ process: "worker-0.1", lost: [{ kind: "usage", at: 1_300 }] }],
      }),
    ],
    [
      "a hand-over that slept",
      told(2, [batch(10, [one, two], other), batch(1_500, [one], { claimedAt: 5 })]),
    ],
    [
      "a blocked partition that goes on behind a hand-over that slept and was cut off",
      told(
        2,
        [
          batch(10, [one], { ...block, ...other }),
          batch(1_500, [one], { ...block, claimedAt: 5, end: null }),
          batch(1_600, [two], { ...block, ...other }),
        ],
        block,
      ),
    ],
    [
      "an acknowledgement the database forgot",
      told(1, [batch(10, [one]), batch(200, [one], other)], { crash: { from: 100, to: 150 } }),
    ],
  ];
  it.each(good)("accepts %s", (_, evidence) => {
    expect(judge(evidence).violations).toEqual([]);
  });

  const bad: [string, Evidence, RegExp][] = [
    ["a lost message", told(3, [batch(10, [one]), batch(20, [two])]), /3 was lost/],
    [
      "a waiting message",
      told(0, [], { books: { committed: [], dead: [], effects: [], left: 1 } }),
      /still wait/,
    ],
    ["a message rolled back", told(1, [batch(10, [one]), batch(20, [two])]), /never committed/],
    [
      "two messages of one number",
      told(1, [batch(10, [one]), batch(20, [message(1, { messageId: "x" })])]),
      /two messages 1/,
    ],
    ["a dead letter of nobody's", told(1, [batch(10, [one])], deadOf(1)), /wrongly dead|dead letters/],
    ["a disordered batch", told(2, [batch(10, [two, one])]), /not in order/],
    ["an overtaking message", told(2, [batch(10, [two]), batch(20, [one])]), /2 came before 1/],
    [
      "a message behind an unfinished one",
      told(2, [batch(10, [one], { end: null }), batch(20, [two], other), batch(1_200, [one], other)], killed),
      /2 came while 1 was unfinished/,
    ],
    [
      "a message that comes back",
      told(2, [batch(10, [one]), batch(20, [two]), batch(1_200, [one], other)], killed),
      /1 came again behind 2/,
    ],
    [
      "a duplicate under a lease that runs",
      told(1, [batch(10, [one]), batch(500, [one], other)], killed),
      /lease of worker-0.1 still ran/,
    ],
    [
      "a duplicate of a living process",
      told(1, [batch(10, [one]), batch(1_200, [one], other)]),
      /lost no lease/,
    ],
    [
      "a blocked partition that goes on",
      told(
        1,
        [
          batch(10, [message(1, { id: 5 })], { ...block, end: { at: 11, verdicts: "r" } }),
          batch(20, [message(1, { id: 6, tenant: "another" })], block),
        ],
        block,
      ),
      /partition 1: 6 came while 5 was unfinished/,
    ],
  ];
  const transactional = (n: number, numbers: readonly number[]): Evidence =>
    told(0, [], {
      books: {
        committed: [{ kind: "attachment_cleanup", tenantId: tenant, n }],
        dead: [],
        effects: numbers.map((number) => ({ tenantId: tenant, number })),
        left: 0,
      },
    });
  it.each([
    ["all once", transactional(3, [1, 2, 3]), /^$/],
    ["one missing", transactional(2, [1]), /2 was lost/],
    ["one twice", transactional(2, [1, 2, 2]), /2 had its effect twice/],
    ["one too early", transactional(3, [1, 3, 2]), /2 had its effect after 3/],
    ["one undone by its producer", transactional(1, [1, 2]), /never committed/],
  ])("judges the effects of a transactional handler: %s", (_, evidence, violation) => {
    expect(judge(evidence).violations.join("\n")).toMatch(violation);
  });

  it.each(bad)("sees %s", (_, evidence, violation) => {
    expect(judge(evidence).violations.join("\n")).toMatch(violation);
  });
});

function deadOf(number: number): Pick<Evidence, "books"> {
  return {
    books: {
      committed: [{ kind: "usage", tenantId: tenant, n: 1 }],
      dead: [{ kind: "usage", tenantId: tenant, number }],
      effects: [],
      left: 0,
    },
  };
}
