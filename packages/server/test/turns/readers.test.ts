import { expect, test, vi } from "vitest";
import { LogReaders, logChannel, readerChannel } from "../../src/turns/readers.ts";

const turn = "turn";

/** Two processes, of which the first writes the turn; notifications arrive at once, at both. */
const twoProcesses = () => {
  const sent: string[] = [];
  const all: LogReaders[] = [];
  const notify = (channel: string, turnId: string): void => {
    sent.push(channel);
    for (const one of all) {
      if (channel === readerChannel) one.onReader(turnId);
      else one.onAppended(turnId);
    }
  };
  const owner = new LogReaders(notify, () => true);
  const other = new LogReaders(notify, () => false);
  all.push(owner, other);
  return { owner, other, sent };
};

test("nobody is told of a turn that is not read elsewhere", () => {
  const { owner, sent } = twoProcesses();
  let woken = 0;
  const leave = owner.enter(turn, () => {
    woken += 1;
  });
  owner.appended(turn);
  leave();
  owner.appended(turn);
  owner.ended(turn);
  expect([woken, sent]).toEqual([1, []]);
});

test("a reader elsewhere makes itself known and is woken by every append and the end", () => {
  const { owner, other, sent } = twoProcesses();
  const woken: string[] = [];
  const leave = other.enter(turn, () => woken.push("one"));
  other.enter(turn, () => woken.push("two"));
  other.enter("another turn", () => woken.push("of another turn"));
  owner.appended(turn);
  expect(woken).toEqual(["one", "two"]);
  leave();
  owner.ended(turn);
  expect(woken).toEqual(["one", "two", "two"]);
  expect(sent).toEqual([readerChannel, readerChannel, logChannel, logChannel]);
});

test("a turn that has ended is forgotten", () => {
  const { owner, other, sent } = twoProcesses();
  other.enter(turn, () => {});
  owner.ended(turn);
  sent.length = 0;
  owner.appended(turn);
  expect(sent).toEqual([]);
});

test("a reader that says twice that it leaves takes nobody along", () => {
  const { owner } = twoProcesses();
  const leave = owner.enter(turn, () => {});
  leave();
  let woken = 0;
  owner.enter(turn, () => {
    woken += 1;
  });
  leave();
  owner.appended(turn);
  expect(woken).toBe(1);
});

test("many readers of a turn make it known once, and not for ever", () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  try {
    const { other, sent } = twoProcesses();
    for (let reader = 0; reader < 100; reader += 1) other.enter(turn, () => {});
    for (let reader = 0; reader < 100; reader += 1) other.announce(turn);
    expect(sent).toEqual([readerChannel]);
    vi.advanceTimersByTime(500);
    for (let reader = 0; reader < 100; reader += 1) other.announce(turn);
    expect(sent).toEqual([readerChannel, readerChannel]);
  } finally {
    vi.useRealTimers();
  }
});
