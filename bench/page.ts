import type { Browser, CDPSession, Page } from "playwright-core";
import { startBrowser } from "../packages/web/test/support/browser.ts";
import setup from "../packages/web/test/support/global-setup.ts";
import { createChats } from "./harness/client.ts";
import { fillChats } from "./harness/fill.ts";
import { rounded } from "./harness/measure.ts";
import { type Stack, withStack } from "./harness/stack.ts";
import { scaled, summarise } from "./support.ts";

const MESSAGES = 2_000;
const ROUNDS = 7;
const DELTAS_PER_SECOND = 200;
const STREAM_SECONDS = 10;

const paragraph =
  "A **bold** word, `code`, [a link](https://example.com/x) and plain text.\n\n- one\n- two\n\n";

interface Visit {
  readonly page: Page;
  readonly cdp: CDPSession;
}

/** A page of a new browser profile: nothing is cached. */
const visit = async <T>(browser: Browser, stack: Stack, run: (visit: Visit) => Promise<T>): Promise<T> => {
  const context = await browser.newContext({ viewport: { width: 1_280, height: 900 } });
  try {
    const page = await context.newPage();
    await page.addInitScript((token) => {
      sessionStorage.setItem("mini-chat.token", token);
      const tasks: number[] = [];
      Object.assign(window, { longTasks: tasks });
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) tasks.push(duration);
      }).observe({ type: "longtask", buffered: true });
    }, stack.users[0]?.token ?? "");
    const cdp = await context.newCDPSession(page);
    await cdp.send("Performance.enable");
    return await run({ page, cdp });
  } finally {
    await context.close();
  }
};

const address = (stack: Stack, chatId = ""): string =>
  `http://127.0.0.1:${stack.serverPort}/${chatId === "" ? "" : `#/chats/${chatId}`}`;

const metric = async ({ cdp }: Visit, name: string): Promise<number> => {
  const { metrics } = await cdp.send("Performance.getMetrics");
  return metrics.find((one) => one.name === name)?.value ?? Number.NaN;
};

const forgetTasks = (page: Page): Promise<void> =>
  page.evaluate(() => void Reflect.get(window, "longTasks").splice(0));

/** 0 when no task took 50 ms: the browser counts from there. */
const longestTask = (page: Page): Promise<number> =>
  page.evaluate(() => Math.max(0, ...Reflect.get(window, "longTasks")));

/** Bytes over the wire until one can write, and ms from the navigation to there. */
const firstLoad = (browser: Browser, stack: Stack): Promise<{ bytes: number; ready: number }> =>
  visit(browser, stack, async ({ page, cdp }) => {
    let bytes = 0;
    await cdp.send("Network.enable");
    cdp.on("Network.loadingFinished", ({ encodedDataLength }) => {
      bytes += encodedDataLength;
    });
    await page.goto(address(stack));
    await page.getByRole("button", { name: /^Model: / }).waitFor();
    const ready = await page.evaluate(() => performance.now());
    return { bytes, ready };
  });

/** From choosing the chat in a page that is there to its latest message on the screen, in ms. */
const openChat = (browser: Browser, stack: Stack, chatId: string): Promise<number> =>
  visit(browser, stack, async ({ page }) => {
    await page.goto(address(stack));
    await page.getByRole("textbox", { name: "Message" }).waitFor();
    return page.evaluate(async (id) => {
      const begin = performance.now();
      location.hash = `#/chats/${id}`;
      while (document.querySelector(".row-part") === null) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
      return performance.now() - begin;
    }, chatId);
  });

/** Longest task in ms while the whole chat is scrolled through, older messages being read on the way. */
const scrollThrough = (browser: Browser, stack: Stack, chatId: string): Promise<number> =>
  visit(browser, stack, async ({ page }) => {
    await page.goto(address(stack, chatId));
    await page.locator(".row-part").first().waitFor();
    await page.waitForTimeout(500);
    await forgetTasks(page);
    await page.mouse.move(700, 400);
    for (let step = 0; step < scaled(300); step += 1) {
      await page.mouse.wheel(0, -800);
      await page.waitForTimeout(16);
    }
    return longestTask(page);
  });

/** Share of the main thread while an answer comes, and the longest task meanwhile in ms. */
const stream = (browser: Browser, stack: Stack): Promise<{ share: number; longest: number }> =>
  visit(browser, stack, async (seen) => {
    const { page } = seen;
    const count = scaled(DELTAS_PER_SECOND * STREAM_SECONDS);
    const pieces = Array.from({ length: count }, (_, at) => {
      const begin = (at * 12) % paragraph.length;
      return { text: paragraph.slice(begin, begin + 12), delay_ms: 1_000 / DELTAS_PER_SECOND };
    });
    await stack.setAnswer({ events: pieces });
    await page.goto(address(stack));
    await page.getByRole("textbox", { name: "Message" }).fill("go");
    await page.keyboard.press("Enter");
    await page.locator(".row-part").first().waitFor();
    await forgetTasks(page);
    const [busy, since] = [await metric(seen, "TaskDuration"), await metric(seen, "Timestamp")];
    await page.getByRole("button", { name: "Answer again" }).waitFor({ timeout: 120_000 });
    const share = ((await metric(seen, "TaskDuration")) - busy) / ((await metric(seen, "Timestamp")) - since);
    return { share, longest: await longestTask(page) };
  });

const repeat = async <T>(times: number, run: () => Promise<T>): Promise<T[]> => {
  const results: T[] = [];
  for (let at = 0; at < times; at += 1) results.push(await run());
  return results;
};

/**
 * The page in a real browser on the same machine as everything else: first load without a cache, opening a chat of
 * 2,000 messages, scrolling through it, and an answer of 200 deltas a second for 10 s.
 */
export const run = async (): Promise<object> => {
  setup();
  return withStack({ users: 1 }, async (stack) => {
    const browser = await startBrowser();
    try {
      const machine = stack.machine();
      const [chat] = await createChats(stack, 1);
      if (chat === undefined) throw new Error("no chat");
      const { chatId } = chat;
      await fillChats(stack, [{ ...chat, messages: MESSAGES }]);
      const rounds = scaled(ROUNDS);
      const loads = await repeat(rounds, () => firstLoad(browser, stack));
      const opens = await repeat(rounds, () => openChat(browser, stack, chatId));
      const scrolls = await repeat(Math.min(rounds, 3), () => scrollThrough(browser, stack, chatId));
      const streams = await repeat(Math.min(rounds, 3), () => stream(browser, stack));
      return {
        first_load_bytes: Math.max(...loads.map(({ bytes }) => bytes)),
        interactive_ms: rounded(summarise(loads.map(({ ready }) => ready))),
        messages: MESSAGES,
        open_chat_ms: rounded(summarise(opens)),
        longest_task_scrolling_ms: rounded(summarise(scrolls)),
        deltas_per_second: DELTAS_PER_SECOND,
        main_thread_share_streaming: rounded(summarise(streams.map(({ share }) => share))),
        longest_task_streaming_ms: rounded(summarise(streams.map(({ longest }) => longest))),
        machine: machine(),
      };
    } finally {
      await browser.close();
    }
  });
};
