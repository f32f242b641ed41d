import { expect, test } from "vitest";
import { type Breaker, createBreaker } from "../../src/providers/breaker.ts";

const limits = { failure_threshold: 5, open_secs: 30, half_open_probes: 3, success_threshold: 3 };

const setUp = (): { breaker: Breaker; time: { now: () => number; at: number }; opened: () => number } => {
  let opened = 0;
  const time = { at: 1_000, now: () => time.at };
  const breaker = createBreaker(limits, time, () => {
    opened += 1;
  });
  return { breaker, time, opened: () => opened };
};

const fail = (breaker: Breaker, times: number): void => {
  for (let n = 0; n < times; n += 1) breaker.acquire()?.failed();
};

test("five failures in a row open the breaker for 30 s", () => {
  const { breaker, time, opened } = setUp();
  fail(breaker, 4);
  expect(breaker.state).toBe("closed");
  fail(breaker, 1);
  expect([breaker.state, opened()]).toEqual(["open", 1]);
  expect(breaker.acquire()).toBeNull();
  time.at += 29_999;
  expect(breaker.acquire()).toBeNull();
  time.at += 1;
  expect(breaker.acquire()).not.toBeNull();
});

test("a success between failures starts the count again, a given-up call does not", () => {
  const { breaker } = setUp();
  fail(breaker, 4);
  breaker.acquire()?.succeeded();
  fail(breaker, 4);
  breaker.acquire()?.abandoned();
  expect(breaker.state).toBe("closed");
  fail(breaker, 1);
  expect(breaker.state).toBe("open");
});

test("half open: three probes at most, three successes close it", () => {
  const { breaker, time } = setUp();
  fail(breaker, 5);
  time.at += 30_000;
  const probes = [breaker.acquire(), breaker.acquire(), breaker.acquire()];
  expect(breaker.acquire()).toBeNull();
  probes[0]?.answered();
  probes[1]?.succeeded();
  expect(breaker.state).toBe("half_open");
  probes[2]?.succeeded();
  expect(breaker.state).toBe("closed");
});

test("half open: a given-up probe makes room for another, a failed one opens the breaker again", () => {
  const { breaker, time, opened } = setUp();
  fail(breaker, 5);
  time.at += 30_000;
  const probes = [breaker.acquire(), breaker.acquire(), breaker.acquire()];
  probes[0]?.abandoned();
  const again = breaker.acquire();
  expect(again).not.toBeNull();
  again?.failed();
  expect([breaker.state, opened()]).toEqual(["open", 2]);
});

test("a long stream that began before the breaker opened changes nothing when it ends", () => {
  const { breaker, time } = setUp();
  const old = [breaker.acquire(), breaker.acquire(), breaker.acquire(), breaker.acquire()];
  fail(breaker, 5);
  time.at += 30_000;
  breaker.acquire()?.abandoned();
  for (const permit of old) permit?.succeeded();
  expect(breaker.state).toBe("half_open");
});

test("an end counts once", () => {
  const { breaker } = setUp();
  fail(breaker, 3);
  const permit = breaker.acquire();
  permit?.failed();
  permit?.failed();
  expect(breaker.state).toBe("closed");
});
