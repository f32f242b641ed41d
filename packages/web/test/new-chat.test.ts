import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { modelEntry, premiumEntry } from "../../server/test/support/config.ts";
import { answered, ask, setStage } from "./support/stage.ts";

const stage = setStage({
  config: {
    plugins: {
      model_policy: {
        static: {
          model_catalog: [
            modelEntry("standard"),
            premiumEntry("premium", { preference: { is_default: true, sort_order: 0 } }),
          ],
        },
      },
    },
  },
});

const chatAt = async (url: string): Promise<Record<string, unknown>> =>
  (await stage.app.call("GET", `/chats/${/chats\/([0-9a-f-]+)/.exec(url)?.[1]}`)).body;

test("without a choice the model is the server's, and no other is shown", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING");
  await answered(page);
  expect(await chatAt(page.url())).toMatchObject({ model: "premium" });
});

test("the first file makes the chat as it was chosen, and what was written goes along", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Model: Default model" }).click();
  await page.getByRole("menuitemradio", { name: /standard/ }).click();
  await page.getByRole("button", { name: "Temporary chat" }).click();
  await page.getByText("This chat will be deleted by itself after a day.").waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("PING");
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]);
  const files = page.getByRole("list", { name: "Attached files" });
  await files.getByText(/^\d+ B$/).waitFor();
  expect(await page.getByRole("button", { name: "Temporary chat" }).count()).toBe(0);
  expect(await chatAt(page.url())).toMatchObject({ model: "standard", is_temporary: true });
  await page.getByRole("textbox", { name: "Message" }).press("Enter");
  await answered(page);
  await expect.poll(() => chatAt(page.url())).toMatchObject({ title: "PING" });
});

test("a draft waits in its chat, with its files, while another chat is looked at", async () => {
  const { page } = await stage.open();
  await ask(page, "PING");
  await answered(page);
  await page.getByRole("textbox", { name: "Message" }).fill("half a thought");
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]);
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+ B$/)
    .waitFor();
  const chat = page.url();
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  await page.goBack();
  await page.waitForURL(chat);
  await page.getByRole("list", { name: "Attached files" }).getByText("notes.txt").waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("half a thought");
});

const drop = (page: Page, name: string): Promise<void> =>
  page.locator(".chat").evaluate((element, filename) => {
    const data = new DataTransfer();
    data.items.add(new File(["Notes."], filename, { type: "text/plain" }));
    element.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  }, name);

/** Holds the creation of chats until it is told how they go on; resolves when the page asks for one. */
const holdCreation = async (page: Page) => {
  const decided = Promise.withResolvers<"created" | "refused">();
  const asked = Promise.withResolvers<void>();
  await page.route(/\/v1\/chats$/, async (route) => {
    if (route.request().method() !== "POST") return route.continue();
    asked.resolve();
    if ((await decided.promise) === "created") return route.continue();
    const problem = { type: "about:blank", title: "Busy", status: 429, code: "too_many_requests" };
    await route.fulfill({
      status: 429,
      contentType: "application/problem+json",
      body: JSON.stringify(problem),
    });
  });
  return { asked: asked.promise, decide: decided.resolve };
};

test("while a chat is created what was chosen holds, and what is written and dropped goes along", async () => {
  const { page } = await stage.open();
  const creation = await holdCreation(page);
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING");
  await creation.asked;
  await page.getByRole("button", { name: "Model: Default model", disabled: true }).waitFor();
  await page.getByRole("button", { name: "Temporary chat", disabled: true }).waitFor();
  await drop(page, "dropped.txt");
  await page.getByRole("textbox", { name: "Message" }).fill("half a thought");
  creation.decide("created");
  await answered(page);
  const attached = page.getByRole("list", { name: "Attached files" });
  await attached.getByText("dropped.txt").waitFor();
  await attached.getByText(/^\d+ B$/).waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("half a thought");
});

test("who goes to another chat while one is created stays there, and the message is answered all the same", async () => {
  const chatId = await stage.app.createChat();
  await stage.app.ask(chatId, "an older question");
  const { page } = await stage.open();
  const creation = await holdCreation(page);
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING from afar");
  await creation.asked;
  const chats = page.getByRole("navigation", { name: "Chats" });
  await chats.locator(`a[href$="${chatId}"]`).click();
  await answered(page);
  creation.decide("created");
  await chats.getByText("PING from afar").waitFor();
  expect(page.url()).toContain(chatId);
  await chats.getByText("PING from afar").click();
  await answered(page);
  await page.getByRole("region", { name: "Messages" }).getByText("PING from afar").waitFor();
});

/** A page where a chat is being created for a message, while another one is looked at. */
const leaveCreation = async (message: string) => {
  const chatId = await stage.app.createChat();
  await stage.app.ask(chatId, "an older question");
  const { page } = await stage.open();
  const creation = await holdCreation(page);
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, message);
  await creation.asked;
  const chats = page.getByRole("navigation", { name: "Chats" });
  await chats.locator(`a[href$="${chatId}"]`).click();
  await answered(page);
  return { page, creation, chats };
};

const beginAnother = async (page: Page): Promise<void> => {
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
};

const textOf = (page: Page): Promise<string> => page.getByRole("textbox", { name: "Message" }).inputValue();

test("a chat that is refused while one is elsewhere leaves its message where chats are begun, and says why there", async () => {
  const { page, creation } = await leaveCreation("precious words");
  const refused = page.waitForResponse((response) => response.status() === 429);
  creation.decide("refused");
  await (await refused).finished();
  await beginAnother(page);
  await page.locator(".notice").getByText("Busy").waitFor();
  expect(await textOf(page)).toBe("precious words");
});

test("who begins another chat while one is created stays there, with what was written", async () => {
  const { page, creation, chats } = await leaveCreation("PING the first");
  await beginAnother(page);
  expect(await textOf(page)).toBe("");
  await page.getByRole("textbox", { name: "Message" }).fill("second thought");
  creation.decide("created");
  await chats.getByText("PING the first").waitFor();
  expect(page.url()).not.toContain("/chats/");
  expect(await textOf(page)).toBe("second thought");
});

test("a chat that is refused while another one is begun gives its message to that", async () => {
  const { page, creation } = await leaveCreation("precious words");
  await beginAnother(page);
  await page.getByRole("textbox", { name: "Message" }).fill("second thought");
  creation.decide("refused");
  await page.locator(".notice").getByText("Busy").waitFor();
  expect(await textOf(page)).toBe("precious words\n\nsecond thought");
});

test("what is written for a new chat waits while another one is looked at", async () => {
  const chatId = await stage.app.createChat();
  await stage.app.ask(chatId, "an older question");
  const { page } = await stage.open();
  await page.getByRole("textbox", { name: "Message" }).fill("half a thought");
  await page.getByRole("button", { name: "Temporary chat" }).click();
  await page.getByRole("navigation", { name: "Chats" }).locator(`a[href$="${chatId}"]`).click();
  await answered(page);
  await beginAnother(page);
  expect(await textOf(page)).toBe("half a thought");
  await page.getByRole("button", { name: "Temporary chat", pressed: true }).waitFor();
});

test("files that come while a chat is created for another file are attached too", async () => {
  const { page } = await stage.open();
  const creation = await holdCreation(page);
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await drop(page, "first.txt");
  await creation.asked;
  await drop(page, "second.txt");
  creation.decide("created");
  const attached = page.getByRole("list", { name: "Attached files" });
  await expect.poll(() => attached.getByText(/^\d+ B$/).count(), { timeout: 20_000 }).toBe(2);
  await page.waitForURL(/#\/chats\//);
  expect(await attached.locator(".file-name").allTextContents()).toEqual(["first.txt", "second.txt"]);
});

test("a chat that is refused leaves its message and its choices where they were, and says why", async () => {
  const { page } = await stage.open();
  const creation = await holdCreation(page);
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING");
  await creation.asked;
  await drop(page, "dropped.txt");
  creation.decide("refused");
  await page.locator(".notice").getByText("Busy").waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("PING");
  await page.getByRole("button", { name: "Remove dropped.txt" }).click();
  await page.unroute(/\/v1\/chats$/);
  await page.getByRole("button", { name: "Temporary chat" }).click();
  await page.getByRole("textbox", { name: "Message" }).press("Enter");
  await answered(page);
  expect(await chatAt(page.url())).toMatchObject({ is_temporary: true });
});
