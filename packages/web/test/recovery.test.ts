import { afterEach, expect, test } from "vitest";
import { eventually } from "../../server/test/support/app.ts";
import { type Cable, startCable } from "./support/cable.ts";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

let cable: Cable | undefined;

afterEach(async () => {
  await cable?.close();
  cable = undefined;
});

const byCable = async () => {
  cable = await startCable(stage.origin);
  const chatId = await stage.app.createChat();
  const tab = await stage.open({ origin: cable.origin, path: chatPath(chatId) });
  await tab.page.getByText("Nothing here yet").waitFor();
  return { ...tab, chatId, cable };
};

const count = async (chatId: string): Promise<number> =>
  (await stage.app.call("GET", `/chats/${chatId}/messages`)).body.items.length;

test("a connection that is lost for good leaves the delivery uncertain, says so, and the message can be resent", async () => {
  const { page, chatId, cable } = await byCable();
  cable.cut();
  await ask(page, "PING");
  await page
    .getByText("Connection lost. Message delivery is uncertain. You can resend.", { exact: true })
    .waitFor({ timeout: 25_000 });
  cable.restore();
  await page.getByRole("button", { name: "Resend" }).first().click();
  await page.getByText("PONG").waitFor();
  expect(await count(chatId)).toBe(2);
}, 45_000);

test("a message that was answered all the same is not answered twice: it is recovered", async () => {
  const { page, chatId, cable } = await byCable();
  cable.holdAnswers();
  await ask(page, "PING");
  await eventually(async () => (await count(chatId)) === 2);
  cable.cut();
  await page
    .getByText("Connection lost. Message delivery is uncertain. You can resend.")
    .waitFor({ timeout: 25_000 });
  cable.restore();
  await page.getByRole("button", { name: "Resend" }).first().click();
  await page.getByText("Recovered a previously completed response.", { exact: true }).waitFor();
  await page.getByText("PONG").waitFor();
  expect(await count(chatId)).toBe(2);
}, 45_000);

test("a resend of a message whose answer failed shows how it ended, and another try works", async () => {
  const { page, chatId, cable } = await byCable();
  cable.holdAnswers();
  await ask(page, "ERROR");
  const requestId = async (): Promise<string> =>
    (await stage.app.call("GET", `/chats/${chatId}/messages`)).body.items[0]?.request_id;
  await eventually(async () => (await requestId()) !== undefined);
  const first = await requestId();
  const turn = `/chats/${chatId}/turns/${first}`;
  await eventually(async () => (await stage.app.call("GET", turn)).body.state === "error");
  cable.cut();
  await page
    .getByText("Connection lost. Message delivery is uncertain. You can resend.")
    .waitFor({ timeout: 25_000 });
  cable.restore();
  await page.getByRole("button", { name: "Resend" }).first().click();
  await page.getByText(/You can try again\.$/).waitFor();
  expect(await page.getByRole("alert").count()).toBe(0);
  expect(await requestId()).toBe(first);
  expect(await count(chatId)).toBe(1);
  stage.app.simulator.enqueue({ events: [{ text: "the second try" }] });
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.getByText("the second try").waitFor();
  await answered(page);
}, 60_000);

test("a stop that could not reach the server takes effect once the answer is found again", async () => {
  const { page, chatId, cable } = await byCable();
  stage.app.simulator.enqueue({ events: [{ text: "begun" }, { wait_for: "never" }] });
  cable.holdAnswers();
  await ask(page, "go");
  await eventually(async () => (await count(chatId)) === 1);
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByRole("button", { name: "Stopping the answer…" }).waitFor();
  cable.cut();
  await page
    .getByText("Connection lost. Message delivery is uncertain. You can resend.")
    .waitFor({ timeout: 25_000 });
  cable.restore();
  await page.getByRole("button", { name: "Resend" }).first().click();
  await page.getByText("You stopped this answer.").waitFor();
}, 60_000);

test("an answer whose connection breaks goes on where it broke", async () => {
  const { page, cable } = await byCable();
  stage.app.simulator.enqueue({
    events: [{ text: "before the cut" }, { wait_for: "cut" }, { text: ", and after it" }],
  });
  await ask(page, "go");
  await page.getByText("before the cut").waitFor();
  cable.pull();
  stage.app.simulator.open("cut");
  await page.getByText("before the cut, and after it").waitFor();
  await answered(page);
});

test("a message into a chat that is being answered is refused, explained, and kept to be sent later", async () => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("Nothing here yet").waitFor();
  stage.app.simulator.enqueue({
    events: [{ text: "the other answer" }, { wait_for: "other" }, { text: " ends" }],
  });
  const elsewhere = await stage.app.send(chatId, {
    content: "from another device",
    on_disconnect: "continue",
  });
  await elsewhere.until("delta");
  await ask(page, "me too");
  await page
    .getByText("A response is already in progress for this message. Please wait.", { exact: true })
    .waitFor();
  await page.getByText("the other answer").waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("me too");
  stage.app.simulator.open("other");
  await page.getByText("the other answer ends").waitFor();
});

test("a reload in the middle of an answer goes on showing it", async () => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  stage.app.simulator.enqueue({
    events: [{ text: "first part" }, { wait_for: "reloaded" }, { text: ", last part" }],
  });
  await ask(page, "go");
  await page.getByText("first part").waitFor();
  await page.reload();
  await page.getByText("first part").waitFor();
  stage.app.simulator.open("reloaded");
  await page.getByText("first part, last part").waitFor();
  await answered(page);
});

test("a turn begun elsewhere that cannot be resumed is waited for, and shown when it ends", async () => {
  const chatId = await stage.app.createChat();
  stage.app.simulator.enqueue({
    events: [{ text: "slow" }, { wait_for: "elsewhere" }, { text: " but sure" }],
  });
  const stream = await stage.app.send(chatId, { content: "asked elsewhere" });
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("asked elsewhere").waitFor();
  const waiting = page.getByText("A response is already in progress for this message. Please wait.");
  await waiting.waitFor({ timeout: 25_000 });
  expect(await page.getByRole("button", { name: "Resend" }).count()).toBe(0);
  stage.app.simulator.open("elsewhere");
  await stream.rest();
  await page.getByText("slow but sure").waitFor({ timeout: 25_000 });
  await waiting.waitFor({ state: "detached" });
}, 90_000);
