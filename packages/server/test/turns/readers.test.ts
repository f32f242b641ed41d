import { expect, test } from "vitest";
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
  expect(sent).toEqual([readerChannel, readerChannel, readerChannel, logChannel, logChannel]);
});

test("a turn that has ended is forgotten", () => {
  const { owner, other, sent } = twoProcesses();
  other.enter(turn, () => {});
  owner.ended(turn);
  sent.length = 0;
  owner.appended(turn);
  expect(sent).toEqual([]);
});
