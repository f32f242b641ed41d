import { describe, expect, it, vi } from "vitest";
import { createGate, createThrottle } from "../../src/outbox/wake.ts";

describe("gate (outbox.md §7)", () => {
  it("turns ten calls in a tick into one pass", async () => {
    const gate = createGate();
    let passes = 0;
    const loop = (async () => {
      while (await gate.wait(10_000)) {
        passes += 1;
        if (passes === 2) return;
      }
    })();
    for (let call = 0; call < 10; call += 1) gate.raise();
    await vi.waitFor(() => expect(passes).toBe(1));
    gate.raise();
    await loop;
    expect(passes).toBe(2);
  });

  it("remembers a call made during a pass", async () => {
    const gate = createGate();
    gate.raise();
    expect(await gate.wait(10_000)).toBe(true);
    gate.raise();
    expect(await gate.wait(10_000)).toBe(true);
    expect(await gate.wait(0)).toBe(false);
  });
});

describe("throttle of notifications", () => {
  it("sends at once, then one trailing call for all that came meanwhile", () => {
    vi.useFakeTimers();
    try {
      let sent = 0;
      const throttle = createThrottle(
        () => {
          sent += 1;
        },
        () => 2,
      );
      for (let call = 0; call < 5; call += 1) throttle.call();
      expect(sent).toBe(1);
      vi.advanceTimersByTime(2);
      expect(sent).toBe(2);
      vi.advanceTimersByTime(20);
      expect(sent).toBe(2);
      throttle.call();
      expect(sent).toBe(3);
      throttle.call();
      throttle.stop();
      vi.advanceTimersByTime(20);
      expect(sent).toBe(3);
    } finally {
      vi.useRealTimers();
    }
  });
});
