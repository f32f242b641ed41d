import { expect, test } from "vitest";
import { eventually } from "../../server/test/support/app.ts";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

test("a new chat is asked, answered and listed", async () => {
  const { page } = await stage.open();
  await ask(page, "PING");
  await page.getByText("PONG").waitFor();
  await page.getByRole("navigation").getByText("PING").waitFor();
  expect(page.url()).toMatch(/#\/chats\/[0-9a-f-]{36}$/);
});

test("an answer is shown while it comes, and can be stopped with what there is", async () => {
  stage.app.simulator.enqueue({
    events: [{ text: "The first half" }, { wait_for: "stopped" }, { text: "never" }],
  });
  const { page } = await stage.open();
  await ask(page, "go");
  await page.getByText("The first half").waitFor();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByText("You stopped this answer.").waitFor();
  expect(await page.getByText("The first half").count()).toBe(1);
  await page.getByRole("button", { name: "Send message" }).waitFor();
});

test("the model of a new chat is chosen, and named at its answers", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Model: Default model" }).click();
  await page.getByRole("menuitemradio", { name: /premium/ }).click();
  await ask(page, "hello");
  await answered(page);
  await page.getByText(/^premium · /).waitFor();
});

test("a retry puts another answer in the place of the last one", async () => {
  const { page } = await stage.open();
  stage.app.simulator.enqueue({ events: [{ text: "one answer" }] });
  await ask(page, "which");
  await page.getByText("one answer").waitFor();
  stage.app.simulator.enqueue({ events: [{ text: "another answer" }] });
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.getByText("another answer").waitFor();
  expect(await page.getByText("one answer").count()).toBe(0);
});

test("the last message is edited in its place and answered again", async () => {
  const { page } = await stage.open();
  await ask(page, "first wording");
  await answered(page);
  await page.getByRole("button", { name: "Edit message" }).click();
  await page.getByRole("textbox", { name: "Edit message" }).fill("PING");
  await page.keyboard.press("Enter");
  await page.getByText("PONG").waitFor();
  await answered(page);
  expect(await page.getByRole("region", { name: "Messages" }).getByText("first wording").count()).toBe(0);
});

test("the last message is deleted with its answer, after a question", async () => {
  const { page } = await stage.open();
  await ask(page, "PING");
  await answered(page);
  await page.getByRole("button", { name: "Delete message and answer" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Nothing here yet").waitFor();
});

test("a like is kept, and taken back", async () => {
  const chatId = await stage.app.createChat();
  await stage.app.ask(chatId, "PING");
  const reaction = async (): Promise<unknown> =>
    (await stage.app.call("GET", `/chats/${chatId}/messages`)).body.items[1].my_reaction;
  const { page } = await stage.open({ path: chatPath(chatId) });
  const like = page.getByRole("button", { name: "Good answer" });
  await like.click();
  await eventually(async () => (await reaction()) === "like");
  expect(await like.getAttribute("aria-pressed")).toBe("true");
  await like.click();
  await eventually(async () => (await reaction()) === null);
});

test("the web is searched when asked to; the activity and the sources are shown and open", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Web search" }).click();
  await ask(page, "SEARCH: something");
  await page.getByText("Searched the web").waitFor();
  await page.getByRole("list", { name: "Sources" }).getByRole("button").first().click();
  const dialog = page.getByRole("dialog");
  const link = dialog.getByRole("link", { name: /^Open / });
  expect(await link.getAttribute("href")).toMatch(/^https?:/);
  expect(await link.getAttribute("rel")).toContain("noopener");
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
});

test("an answer that fails says so and offers another try", async () => {
  const { page } = await stage.open();
  await ask(page, "ERROR");
  await page.getByText(/You can try again\.$/).waitFor();
  await page.getByRole("button", { name: "Answer again" }).waitFor();
});

test("a temporary chat is created as one", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Temporary chat" }).click();
  await ask(page, "PING");
  await answered(page);
  const chatId = /chats\/([0-9a-f-]+)/.exec(page.url())?.[1];
  expect((await stage.app.call("GET", `/chats/${chatId}`)).body.is_temporary).toBe(true);
});

test("everything works by keyboard: send, menu, dialog, and back", async () => {
  const { page } = await stage.open();
  await page.getByRole("textbox", { name: "Message" }).focus();
  await page.keyboard.type("PING");
  await page.keyboard.press("Enter");
  await answered(page);
  const menu = page.getByRole("button", { name: "Actions for PING" }).first();
  await menu.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("menuitem", { name: "Rename" }).waitFor();
  await page.keyboard.press("Enter");
  const title = page.getByRole("textbox", { name: "Title" });
  await title.waitFor();
  await page.keyboard.press("Control+A");
  await page.keyboard.type("By keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").getByText("By keyboard").waitFor();
});

test("sources are there again after a reload", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Web search" }).click();
  await ask(page, "SEARCH: lasting");
  await answered(page);
  await page.reload();
  await page.getByRole("list", { name: "Sources" }).getByRole("button").first().waitFor();
});

test("a refused edit keeps its wording, in the field it was written in", async () => {
  const { page } = await stage.open();
  await ask(page, "PING");
  await answered(page);
  await page.route(/\/turns\/[0-9a-f-]+$/, (route) =>
    route.request().method() === "PATCH"
      ? route.fulfill({
          status: 429,
          contentType: "application/problem+json",
          body: JSON.stringify({ type: "about:blank", title: "Too many", status: 429, code: "rate_limited" }),
        })
      : route.continue(),
  );
  await page.getByRole("button", { name: "Edit message" }).click();
  const field = page.getByRole("textbox", { name: "Edit message" });
  await field.fill("a long and careful new wording");
  await field.press("Enter");
  await page.getByRole("alert").waitFor();
  expect(await field.inputValue()).toBe("a long and careful new wording");
  await page.unroute(/\/turns\/[0-9a-f-]+$/);
  await field.press("Enter");
  await answered(page);
  await page.getByText("a long and careful new wording").waitFor();
  expect(await field.count()).toBe(0);
});

test("an edit of a message that was answered again in vain waits while another chat is looked at", async () => {
  const { page } = await stage.open();
  await ask(page, "ERROR");
  await answered(page);
  await page.getByRole("button", { name: "Answer again" }).click();
  await page.getByRole("button", { name: "Stop the answer" }).waitFor();
  await answered(page);
  await page.locator(".question").hover();
  await page.getByRole("button", { name: "Edit message" }).click();
  const field = page.getByRole("textbox", { name: "Edit message" });
  await field.fill("PING");
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  const status = page.waitForResponse((response) => /\/turns\/[0-9a-f-]+$/.test(response.url()));
  await page.goBack();
  await (await status).finished();
  await field.press("Enter");
  await page.getByText("PONG").waitFor();
});

test("an edit waits while one looks further up", async () => {
  const chatId = await stage.app.createChat();
  for (let at = 0; at < 20; at += 1) await stage.app.ask(chatId, `question ${at} of many`);
  const { page } = await stage.open({ path: chatPath(chatId) });
  await answered(page);
  await page.getByText("question 19 of many").hover();
  await page.getByRole("button", { name: "Edit message" }).click();
  const field = page.getByRole("textbox", { name: "Edit message" });
  await field.fill("a new wording");
  const messages = page.getByRole("region", { name: "Messages" });
  await expect
    .poll(async () => {
      await messages.evaluate((box) => box.scrollTo(0, 0));
      return field.count();
    })
    .toBe(0);
  await messages.evaluate((box) => box.scrollTo(0, box.scrollHeight));
  await field.waitFor();
  expect(await field.inputValue()).toBe("a new wording");
});

test("a question asked in another tab does not take away what one reads", async () => {
  const chatId = await stage.app.createChat();
  for (let at = 0; at < 35; at += 1) await stage.app.ask(chatId, `question ${at} of many`);
  const one = await stage.open({ path: chatPath(chatId) });
  const other = await stage.open({ path: chatPath(chatId), context: one.context });
  await answered(one.page);
  await answered(other.page);
  const messages = other.page.getByRole("region", { name: "Messages" });
  const first = messages.getByText("question 0 of many");
  await expect
    .poll(async () => {
      await messages.evaluate((box) => box.scrollTo(0, 0));
      return first.count();
    })
    .toBe(1);
  const readAgain = other.page.waitForResponse((response) => response.url().includes("/messages?"));
  await ask(one.page, "PING");
  await one.page.getByText("PONG").last().waitFor();
  await readAgain;
  await other.page.getByRole("button", { name: "To the latest message" }).click();
  await other.page.getByText("PONG").last().waitFor();
  await expect
    .poll(async () => {
      await messages.evaluate((box) => box.scrollTo(0, 0));
      return first.count();
    })
    .toBe(1);
});
