import { describe, expect, it } from "vitest";
import { partitionOf, queueSettings } from "../../src/outbox/queue.ts";
import { testConfig } from "./support.ts";

describe("partition of a key (outbox.md §3)", () => {
  it.each([
    ["00000000-0000-0000-0000-000000000005", 4, 1],
    ["00000000-0000-0000-0000-0000000000ff", 64, 63],
    ["00000000-0000-0000-0000-0000000000ff", 4, 3],
    ["00000000-0000-0000-0000-000000000000", 16, 0],
  ])("%s of %i is %i", (uuid, count, partition) => {
    expect(partitionOf(uuid, count)).toBe(partition);
  });
});

describe("queues (outbox.md §3, outbox-engine.md Handlers)", () => {
  const queues = queueSettings(testConfig);
  it.each([
    ["usage", 30_000, 2_000, Number.POSITIVE_INFINITY],
    ["audit", 60_000, 2_000, Number.POSITIVE_INFINITY],
    ["attachment_cleanup", 30_000, 2_000, 5],
    ["chat_cleanup", 30_000, 2_000, 5],
    ["thread_summary", 300_000, 5_000, 3],
    ["doc_summary", 120_000, 5_000, 3],
  ] as const)(
    "%s: lease %i ms, headroom %i ms, at most %d attempts",
    (kind, leaseMs, headroomMs, maxAttempts) => {
      expect(queues[kind]).toMatchObject({ leaseMs, headroomMs, maxAttempts, policy: "park_key" });
    },
  );
});
