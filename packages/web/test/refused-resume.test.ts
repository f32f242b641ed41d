import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

/** Lets the page know that a turn runs, and refuses to say more when it wants to follow it; how often it did. */
const refuseToResume = async (page: Page): Promise<{ readonly refused: () => number }> => {
  let asked = 0;
  await page.route(/\/turns\/[0-9a-f-]+$/, async (route) => {
    asked += 1;
    if (asked % 2 === 1) return route.continue();
    const problem = { type: "about:blank", title: "Forbidden", status: 403, code: "forbidden" };
    await route.fulfill({
      status: 403,
      contentType: "application/problem+json",
      body: JSON.stringify(problem),
    });
  });
  return { refused: () => Math.floor(asked / 2) };
};

/** Opens a chat that is being answered and cannot be followed, in a page whose time stands still. */
const openRefused = async () => {
  const chatId = await stage.app.createChat();
  stage.app.simulator.enqueue({ events: [{ text: "heard" }, { wait_for: `end ${chatId}` }] });
  const elsewhere = await stage.app.send(chatId, { content: "asked elsewhere", on_disconnect: "continue" });
  await elsewhere.until("delta");
  const { page } = await stage.open();
  await page.getByText("What would you like to know?").waitFor();
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 60_000);
  const { refused } = await refuseToResume(page);
  await page.goto(`${stage.origin}${chatPath(chatId)}`);
  await page.getByText("asked elsewhere").waitFor();
  await expect.poll(refused, { timeout: 25_000 }).toBe(1);
  return { page, chatId, refused };
};

/** Lets time pass until the page was refused so often; at least so long it waited, in seconds. */
const secondsUntil = async (page: Page, refused: () => number, times: number): Promise<number> => {
  let seconds = 0;
  for (; refused() < times; seconds += 1) await page.clock.runFor(1_000);
  return seconds;
};

test("an answer that is refused to be followed is asked for again with growing pauses, until the chat is left", async () => {
  const { page, refused } = await openRefused();
  for (const [before, pause] of [1, 2, 4, 8, 16, 30, 30].entries()) {
    expect(await secondsUntil(page, refused, before + 2)).toBeGreaterThanOrEqual(pause);
  }
  const times = refused();
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  await page.clock.runFor(60_000);
  expect(refused()).toBe(times);
}, 90_000);

test("an answer that could not be followed is shown when it can be", async () => {
  const { page } = await openRefused();
  await page.unroute(/\/turns\/[0-9a-f-]+$/);
  await page.clock.resume();
  await page.getByText("heard").waitFor();
});

test("an answer that could not be followed is not forgotten when the chat cannot be read for a while", async () => {
  const { page } = await openRefused();
  let reads = 0;
  await page.route(/\/messages\?/, async (route) => {
    reads += 1;
    await route.abort();
  });
  await page.clock.resume();
  // The client reads four times before it gives up.
  await expect.poll(() => reads, { timeout: 25_000 }).toBeGreaterThan(4);
  await page.unroute(/\/messages\?/);
  await page.unroute(/\/turns\/[0-9a-f-]+$/);
  await page.getByText("heard").waitFor();
}, 60_000);

test("a chat that was deleted elsewhere before its answer could be followed is not asked for any more", async () => {
  const { page, chatId } = await openRefused();
  await stage.app.call("DELETE", `/chats/${chatId}`);
  const gone = page.getByText("This chat could not be opened");
  await expect
    .poll(async () => {
      await page.clock.runFor(1_000);
      return gone.count();
    })
    .toBe(1);
  let asked = 0;
  page.on("request", (request) => {
    if (request.url().includes(chatId)) asked += 1;
  });
  await page.clock.runFor(120_000);
  expect(asked).toBe(0);
});

test("an answer that cannot be followed can be stopped", async () => {
  const { page } = await openRefused();
  await page.clock.resume();
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await page.getByText("You stopped this answer.").waitFor();
});
