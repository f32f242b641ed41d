import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

const openChat = async (): Promise<{ readonly page: Page; readonly chatId: string }> => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("Nothing here yet").waitFor();
  return { page, chatId };
};

const askHalf = async (page: Page): Promise<void> => {
  stage.app.simulator.enqueue({ events: [{ text: "The first half" }, { wait_for: "never" }] });
  await ask(page, "go");
  await page.getByText("The first half").waitFor();
};

const stop = (page: Page): Promise<void> => page.getByRole("button", { name: "Stop the answer" }).click();

test("an answer that was stopped is still known to be cut off after a reload", async () => {
  const { page } = await openChat();
  await askHalf(page);
  await stop(page);
  await page.getByText("You stopped this answer.").waitFor();
  await page.reload();
  await page.getByText("The answer was cut off.").waitFor();
  expect(await page.getByText("The first half").count()).toBe(1);
  expect(await page.getByText("You stopped this answer.").count()).toBe(0);
});

test("who stopped an answer is not forgotten while another chat is looked at", async () => {
  const { page } = await openChat();
  await askHalf(page);
  await stop(page);
  await page.getByText("You stopped this answer.").waitFor();
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  const readAgain = page.waitForResponse((response) => response.url().includes("/messages?"));
  await page.goBack();
  await readAgain;
  await page.getByText("You stopped this answer.").waitFor();
});

test("an answer that ended early for another reason was not stopped by its reader", async () => {
  const { page, chatId } = await openChat();
  await askHalf(page);
  const { body } = await stage.app.call("GET", `/chats/${chatId}/messages`);
  await stage.app.call("POST", `/chats/${chatId}/turns/${body.items[0].request_id}/cancel`);
  await page.getByText("The answer was cut off.").waitFor();
  expect(await page.getByText("You stopped this answer.").count()).toBe(0);
});

test("an answer that is whole is not called cut off", async () => {
  const { page, chatId } = await openChat();
  await stage.app.ask(chatId, "PING");
  const status = page.waitForResponse((response) => /\/turns\/[0-9a-f-]+$/.test(response.url()));
  await page.reload();
  await (await status).finished();
  await answered(page);
  expect(await page.getByText("The answer was cut off.").count()).toBe(0);
});

test("an answer that failed is no message yet that could be liked", async () => {
  const { page } = await openChat();
  await ask(page, "ERROR");
  await answered(page);
  expect(await page.getByRole("button", { name: "Good answer" }).count()).toBe(0);
});

/** Holds what matches back from the server until the result is called. */
const holdBack = async (page: Page, pattern: RegExp): Promise<() => void> => {
  const { promise, resolve } = Promise.withResolvers<void>();
  await page.route(pattern, async (route) => {
    await promise;
    await route.continue();
  });
  return resolve;
};

const beginnings = {
  message: {
    path: /\/messages:stream$/,
    begin: (page: Page): Promise<void> => ask(page, "go on"),
  },
  retry: {
    path: /\/retry(\?|$)/,
    begin: (page: Page): Promise<void> => page.getByRole("button", { name: "Answer again" }).click(),
  },
};

test.each(Object.entries(beginnings))(
  "a stop before the server has the turn takes effect when it has it: %s",
  async (_name, { path, begin }) => {
    const { page, chatId } = await openChat();
    await stage.app.ask(chatId, "PING");
    await page.reload();
    await answered(page);
    const letGo = await holdBack(page, path);
    stage.app.simulator.enqueue({ events: [{ wait_for: "never" }] });
    await begin(page);
    await stop(page);
    await page.getByRole("button", { name: "Stopping the answer…" }).waitFor();
    letGo();
    await page.getByText("You stopped this answer.").waitFor();
    expect(await page.getByRole("alert").count()).toBe(0);
    await page.getByRole("button", { name: "Send message" }).waitFor();
  },
);

test("a stop that does not reach the server says so and can be tried again", async () => {
  const { page } = await openChat();
  await askHalf(page);
  await page.route("**/cancel", (route) => route.abort());
  await stop(page);
  await page.getByRole("alert").waitFor();
  await page.unroute("**/cancel");
  await stop(page);
  await page.getByText("You stopped this answer.").waitFor();
});
