import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

const titled = async (title: string): Promise<string> => stage.app.createChat(callers.ann, { title });

test("chats are listed, the last active first, and older ones on request", async () => {
  for (let at = 0; at < 52; at += 1) await titled(`number ${at}`);
  const { page } = await stage.open();
  const names = page.getByRole("navigation").locator(".chat-name");
  await names.first().waitFor();
  expect(await names.first().textContent()).toBe("number 51");
  await page.getByRole("button", { name: "Show older chats" }).click();
  await page.getByText("number 0", { exact: true }).waitFor();
});

test("a chat behind the listed ones has its title and its actions when it is opened by its link", async () => {
  const chatId = await titled("Far back");
  for (let at = 0; at < 51; at += 1) await titled(`later ${at}`);
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByRole("main").getByText("Far back", { exact: true }).waitFor();
  await expect.poll(() => page.title(), { timeout: 20_000 }).toMatch(/^Far back – /);
  const names = page.getByRole("navigation").locator(".chat-name");
  const listed = page.getByRole("navigation").getByText("Far back", { exact: true });
  expect(await names.last().textContent()).toBe("Far back");
  await page.getByRole("button", { name: "Show older chats" }).click();
  await names.nth(51).waitFor();
  expect(await listed.count()).toBe(1);
  await page.getByRole("button", { name: "Actions for Far back" }).click();
  await page.getByRole("menuitem", { name: "Rename" }).click();
  await page.getByRole("textbox", { name: "Title" }).fill("Nearer");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("main").getByText("Nearer", { exact: true }).waitFor();
  expect(await names.first().textContent()).toBe("Nearer");
}, 90_000);

test("a chat is renamed and deleted", async () => {
  const chatId = await titled("Old name");
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByRole("button", { name: "Actions for Old name" }).click();
  await page.getByRole("menuitem", { name: "Rename" }).click();
  await page.getByRole("textbox", { name: "Title" }).fill("New name");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("navigation").getByText("New name").waitFor();
  expect((await stage.app.call("GET", `/chats/${chatId}`)).body.title).toBe("New name");
  await page.getByRole("button", { name: "Actions for New name" }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByRole("heading", { level: 1 }).waitFor();
  expect((await stage.app.call("GET", `/chats/${chatId}`)).status).toBe(404);
});

test("what was said is found, with the words marked, and leads to its chat", async () => {
  const chatId = await titled("About lakes");
  await stage.app.ask(chatId, "How deep is the lake Tinnsjå?");
  const { page } = await stage.open();
  await page.getByRole("searchbox").fill("Tinnsjå");
  await page.getByRole("navigation").getByText("Tinnsjå", { exact: true }).first().waitFor();
  expect(await page.locator("mark").first().textContent()).toBe("Tinnsjå");
  await page.locator(".hit a").first().click();
  await page.getByRole("region", { name: "Messages" }).getByText("How deep").waitFor();
  await page.getByRole("searchbox").fill("nowhere to be found");
  await page.getByText("Nothing was found.").waitFor();
});

test("a chat is exported as Markdown and as data", async () => {
  const chatId = await titled("To take home");
  await stage.app.ask(chatId, "PING");
  const { page } = await stage.open({ path: chatPath(chatId) });
  for (const [name, file] of [
    ["Export as Markdown", "To take home.md"],
    ["Export as JSON", "To take home.json"],
  ] as const) {
    await page.getByRole("button", { name: "Actions for To take home" }).click();
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("menuitem", { name }).click(),
    ]);
    expect(download.suggestedFilename()).toBe(file);
    expect(await readFile(await download.path(), "utf8")).toContain("PONG");
  }
});

test("the chat of another tenant is not there", async () => {
  const foreign = await stage.app.createChat(callers.bob);
  const { page } = await stage.open({ path: chatPath(foreign) });
  await page.getByText("This chat could not be opened").waitFor();
});

test("a long chat is read from its end, older messages when one scrolls to them", async () => {
  const chatId = await titled("Long");
  for (let at = 0; at < 35; at += 1) await stage.app.ask(chatId, `question ${at} of many`);
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("question 34 of many").waitFor();
  const messages = page.getByRole("region", { name: "Messages" });
  expect(await messages.getByText("question 0 of many").count()).toBe(0);
  for (
    let round = 0;
    round < 20 && (await messages.getByText("question 0 of many").count()) === 0;
    round += 1
  ) {
    await messages.evaluate((box) => box.scrollTo(0, 0));
    await page.evaluate(
      () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))),
    );
  }
  await messages.getByText("question 0 of many").waitFor();
});

test("two tabs show one chat: what is asked in one appears in the other as it comes", async () => {
  const chatId = await titled("Shared");
  const one = await stage.open({ path: chatPath(chatId) });
  const other = await stage.open({ path: chatPath(chatId), context: one.context });
  await other.page.getByText("Nothing here yet").waitFor();
  stage.app.simulator.enqueue({
    events: [{ text: "seen twice" }, { wait_for: "both" }, { text: " and done" }],
  });
  await ask(one.page, "for both");
  await one.page.getByText("seen twice").waitFor();
  await other.page.getByText("seen twice").waitFor();
  stage.app.simulator.open("both");
  for (const { page } of [one, other]) await page.getByText("seen twice and done").waitFor();
});

test("a draft waits however many other chats are looked at", async () => {
  const drafted = await titled("With a draft");
  const others: string[] = [];
  for (let at = 0; at < 20; at += 1) others.push(await titled(`visited ${at}`));
  const { page } = await stage.open({ path: chatPath(drafted) });
  const visit = async (chatId: string, title: string): Promise<void> => {
    await page.evaluate((hash) => {
      location.hash = hash;
    }, chatPath(chatId).slice(1));
    await page.getByRole("main").getByText(title, { exact: true }).waitFor();
    await page.getByText("Nothing here yet").waitFor();
  };
  await visit(drafted, "With a draft");
  await page.getByRole("textbox", { name: "Message" }).fill("half a thought");
  for (const [at, chatId] of others.entries()) await visit(chatId, `visited ${at}`);
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("");
  await visit(drafted, "With a draft");
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("half a thought");
}, 90_000);
