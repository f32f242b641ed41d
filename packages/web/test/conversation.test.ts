import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../../server/test/support/app.ts";
import { openTab, startBrowser, type Tab } from "./support/browser.ts";

let app: TestApp;
let browser: Browser;
let origin: string;
let tab: Tab | undefined;

beforeAll(async () => {
  [app, browser] = await Promise.all([startTestApp(), startBrowser()]);
  origin = new URL(app.base).origin;
});

afterEach(async () => {
  await tab?.context.close();
  tab = undefined;
});

afterAll(async () => {
  await browser?.close();
  await app?.close();
});

const open = async (path = "/"): Promise<Tab> => {
  tab = await openTab(browser, origin, { path });
  return tab;
};

test("a new chat is asked, answered and listed", async () => {
  const { page, complaints } = await open();
  await page.getByRole("textbox", { name: "Message" }).fill("PING");
  await page.keyboard.press("Enter");
  await page.getByText("PONG").waitFor();
  await page.getByRole("navigation").getByText("PING").waitFor();
  expect(page.url()).toMatch(/#\/chats\/[0-9a-f-]{36}$/);
  expect(complaints).toEqual([]);
});
