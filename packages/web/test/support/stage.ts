import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { startTestApp, type TestApp, type TestAppOptions } from "../../../server/test/support/app.ts";
import { openTab, startBrowser, type Tab, type TabOptions } from "./browser.ts";

/** A server and a browser for one file of tests; what a test opens is closed after it. */
export interface Stage {
  readonly app: TestApp;
  readonly origin: string;
  open(options?: TabOptions & { readonly origin?: string }): Promise<Tab>;
}

export const setStage = (options: TestAppOptions = {}): Stage => {
  let app: TestApp | undefined;
  let browser: Browser | undefined;
  let tabs: Tab[] = [];
  beforeAll(async () => {
    [app, browser] = await Promise.all([startTestApp(options), startBrowser()]);
  });
  afterEach(async () => {
    const opened = tabs;
    tabs = [];
    for (const { context } of opened) await context.close();
    for (const { complaints } of opened) expect(complaints).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    await app?.close();
  });
  const there = (): TestApp => {
    if (app === undefined) throw new Error("the stage is not set yet");
    return app;
  };
  return {
    get app() {
      return there();
    },
    get origin() {
      return new URL(there().base).origin;
    },
    open: async (given = {}) => {
      if (browser === undefined) throw new Error("the stage is not set yet");
      const tab = await openTab(browser, given.origin ?? new URL(there().base).origin, given);
      tabs.push(tab);
      return tab;
    },
  };
};

/** Writes a message and sends it. */
export const ask = async (page: Page, text: string): Promise<void> => {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.getByRole("button", { name: "Send message" }).click();
};

/** Resolves when the latest answer is complete. */
export const answered = async (page: Page): Promise<void> => {
  await page.getByRole("button", { name: "Answer again" }).waitFor();
};

export const chatPath = (chatId: string): string => `/#/chats/${chatId}`;
