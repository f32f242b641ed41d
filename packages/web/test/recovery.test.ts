import type { Page } from "playwright-core";
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

const messagesOf = async (chatId: string) =>
  (await stage.app.call("GET", `/chats/${chatId}/messages`)).body.items;

const count = async (chatId: string): Promise<number> => (await messagesOf(chatId)).length;

const uncertain = (page: Page): Promise<void> =>
  page
    .getByText("Connection lost. Message delivery is uncertain. You can resend.", { exact: true })
    .waitFor({ timeout: 25_000 });

const resend = (page: Page): Promise<void> => page.getByRole("button", { name: "Resend" }).first().click();

/** Looks at another chat and comes back, upon which the chat is read again. */
const lookAway = async (page: Page): Promise<void> => {
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  const readAgain = page.waitForResponse((response) => response.url().includes("/messages?"));
  await page.goBack();
  await (await readAgain).finished();
};

const questions = (page: Page): Promise<string[]> => page.locator(".bubble").allTextContents();

const beginEdit = async (page: Page, text: string): Promise<void> => {
  await page.locator(".question").hover();
  await page.getByRole("button", { name: "Edit message" }).click();
  await page.getByRole("textbox", { name: "Edit message" }).fill(text);
};

test("a connection that is lost for good leaves the delivery uncertain, says so, and the message can be resent", async () => {
  const { page, chatId, cable } = await byCable();
  cable.cut();
  await ask(page, "PING");
  await uncertain(page);
  cable.restore();
  await resend(page);
  await page.getByText("PONG").waitFor();
  expect(await count(chatId)).toBe(2);
}, 45_000);

test("a message that was answered all the same is not answered twice: it is recovered", async () => {
  const { page, chatId, cable } = await byCable();
  cable.holdAnswers();
  await ask(page, "PING");
  await eventually(async () => (await count(chatId)) === 2);
  cable.cut();
  await uncertain(page);
  cable.restore();
  await resend(page);
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
  await uncertain(page);
  cable.restore();
  await resend(page);
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
  await uncertain(page);
  cable.restore();
  await resend(page);
  await page.getByText("You stopped this answer.").waitFor();
}, 60_000);

test("a message that did not arrive is still there to be resent after a look at another chat", async () => {
  const { page, chatId, cable } = await byCable();
  await ask(page, "PING");
  await answered(page);
  cable.cut();
  await ask(page, "precious words");
  await uncertain(page);
  cable.restore();
  await lookAway(page);
  await resend(page);
  await answered(page);
  expect(await questions(page)).toEqual(["PING", "precious words"]);
  expect(await count(chatId)).toBe(4);
}, 60_000);

test("an edit that did not arrive is still there after a look at another chat, and is resent", async () => {
  const { page, chatId, cable } = await byCable();
  await ask(page, "PING");
  await answered(page);
  await beginEdit(page, "much better words");
  cable.cut();
  await page.getByRole("button", { name: "Send again" }).click();
  await uncertain(page);
  cable.restore();
  await lookAway(page);
  await resend(page);
  await answered(page);
  expect(await questions(page)).toEqual(["much better words"]);
  expect((await messagesOf(chatId)).map((one: { content: string }) => one.content)[0]).toBe(
    "much better words",
  );
  expect(await page.locator(".notice").count()).toBe(0);
}, 60_000);

test("an edit that arrived unheard is not done again by a resend", async () => {
  const { page, chatId, cable } = await byCable();
  await ask(page, "first wording");
  await answered(page);
  await beginEdit(page, "PING");
  cable.holdAnswers();
  await page.getByRole("button", { name: "Send again" }).click();
  await eventually(async () => (await messagesOf(chatId))[1]?.content === "PONG");
  const [{ request_id: edited }] = await messagesOf(chatId);
  cable.cut();
  await uncertain(page);
  cable.restore();
  await resend(page);
  await answered(page);
  expect(await questions(page)).toEqual(["PING"]);
  expect((await messagesOf(chatId))[0].request_id).toBe(edited);
}, 60_000);

test("a stop of another answer, whose begin was never heard, takes effect once that is found", async () => {
  const { page, chatId, cable } = await byCable();
  await ask(page, "PING");
  await answered(page);
  const requestId = async (): Promise<string> => (await messagesOf(chatId))[0]?.request_id;
  const first = await requestId();
  stage.app.simulator.enqueue({ events: [{ text: "begun" }, { wait_for: "never" }] });
  cable.holdAnswers();
  await page.getByRole("button", { name: "Answer again" }).click();
  await eventually(async () => (await requestId()) !== first);
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByRole("button", { name: "Stopping the answer…" }).waitFor();
  cable.cut();
  await uncertain(page);
  cable.restore();
  await resend(page);
  await page.getByText("You stopped this answer.").waitFor();
}, 60_000);

test("that delivery is uncertain is not said any more when the answer was found", async () => {
  const { page, chatId, cable } = await byCable();
  cable.holdAnswers();
  await ask(page, "PING");
  await eventually(async () => (await count(chatId)) === 2);
  cable.cut();
  await uncertain(page);
  cable.restore();
  await lookAway(page);
  await answered(page);
  await expect.poll(() => page.locator(".notice").count()).toBe(0);
}, 60_000);

test("the first answer of a chat is shown although its messages cannot be read", async () => {
  stage.app.simulator.enqueue({
    events: [{ text: "the first answer" }, { wait_for: "reads" }, { text: " ends" }],
  });
  const { page } = await stage.open();
  let reads = 0;
  await page.route(/\/messages\?/, async (route) => {
    reads += 1;
    await route.abort();
  });
  await ask(page, "go");
  // The client reads four times before it gives up.
  await expect.poll(() => reads, { timeout: 25_000 }).toBeGreaterThan(4);
  await page.getByText("the first answer").waitFor();
  expect(await page.getByText("This chat could not be opened").count()).toBe(0);
  await page.unroute(/\/messages\?/);
  stage.app.simulator.open("reads");
  await page.getByText("the first answer ends").waitFor();
  await answered(page);
}, 60_000);

test("a refusal leaves what was read meanwhile", async () => {
  const chatId = await stage.app.createChat();
  await stage.app.ask(chatId, "an older question");
  const { page } = await stage.open();
  const [read, refused] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await page.route(/\/messages\?/, async (route) => {
    await read.promise;
    await route.continue();
  });
  await page.route(/\/messages:stream/, async (route) => {
    await refused.promise;
    const problem = { type: "about:blank", title: "Busy", status: 429, code: "too_many_requests" };
    await route.fulfill({
      status: 429,
      contentType: "application/problem+json",
      body: JSON.stringify(problem),
    });
  });
  await page.getByRole("navigation", { name: "Chats" }).locator(`a[href$="${chatId}"]`).click();
  await ask(page, "too quick");
  await page.locator(".bubble").getByText("too quick").waitFor();
  read.resolve();
  await page.locator(".bubble").getByText("an older question").waitFor();
  refused.resolve();
  await page.locator(".notice").getByText("Busy").waitFor();
  expect(await questions(page)).toEqual(["an older question"]);
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("too quick");
});

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
  expect(await page.getByText("The answer has ended.").count()).toBe(0);
  stage.app.simulator.open("elsewhere");
  await stream.rest();
  await page.getByText("slow but sure").waitFor({ timeout: 25_000 });
  await waiting.waitFor({ state: "detached" });
  await page.getByText("The answer is complete.").waitFor({ state: "attached" });
}, 90_000);
