import { expect, test } from "vitest";
import { emptyAnswer, keepKnown, type TurnView } from "../src/conversation/turn-view.ts";
import { identify, keepUndelivered } from "../src/conversation/undelivered.ts";

const question = (content: string) => ({ content, attachments: [], createdAt: undefined });

const turn = (requestId: string, change: Partial<TurnView> = {}): TurnView => ({
  key: requestId,
  requestId,
  question: question(`question of ${requestId}`),
  answer: emptyAnswer("done"),
  ...change,
});

/** What tells turns apart here. */
const outline = (turns: readonly TurnView[]) =>
  turns.map(({ key, requestId, answer: { state } }) => ({ key, requestId, state }));

const again = () => {
  throw new Error("not begun here");
};

/** An edit of `replaces` that may not have arrived. */
const edit = (replaces: string, change: Partial<TurnView> = {}): TurnView => ({
  key: "edit",
  requestId: undefined,
  question: question("a new wording"),
  answer: emptyAnswer("uncertain"),
  attempt: { replaces, again },
  ...change,
});

test("what is read again keeps the keys it is shown under", () => {
  const failed = turn("one", { key: "shown", answer: emptyAnswer("failed") });
  expect(outline(keepKnown([turn("one")], [failed]))).toEqual(outline([turn("one", { key: "shown" })]));
});

test("an answer that is kept gets the question that was not read before", () => {
  const answer = { ...emptyAnswer("done"), messageId: "answer" };
  const [kept] = keepKnown([turn("one", { answer })], [turn("one", { answer, question: undefined })]);
  expect(kept?.question).toEqual(question("question of one"));
});

const found = turn("three", { question: question("a new wording") });

test.each([
  ["its place is taken by its question", [turn("one"), found], "three"],
  ["its place is taken by another question", [turn("one"), turn("three")], undefined],
  ["the turn it replaces is still there", [turn("one"), turn("two")], undefined],
  ["its question stands elsewhere", [turn("one"), turn("two"), found], undefined],
  ["nothing is there", [], undefined],
])("whether an edit arrived is told by where its question stands: %s", (_name, read, requestId) => {
  expect(identify([turn("one"), edit("two")], read).at(-1)?.requestId).toBe(requestId);
});

const message = turn("new", { answer: emptyAnswer("uncertain"), attempt: { replaces: undefined, again } });

test.each([
  ["a message that was not read stays last", [turn("one")], message, [turn("one"), message]],
  ["a message that was read is as it was read", [turn("new")], message, [turn("new")]],
  ["an edit stays in the place of what it replaces", [turn("one")], edit("one"), [edit("one")]],
  ["an edit of what is not the latest any more goes", [turn("one")], edit("two"), [turn("one")]],
  [
    "an answer that is known is not kept",
    [turn("one")],
    { ...message, answer: emptyAnswer("failed") },
    [turn("one")],
  ],
])("%s", (_name, read, last, shown) => {
  expect(outline(keepUndelivered(read, [last]))).toEqual(outline(shown));
});
