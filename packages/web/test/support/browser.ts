import { existsSync } from "node:fs";
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type Page,
} from "playwright-core";
import { callers } from "../../../server/test/support/config.ts";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Starts the browser of the machine; without one the tests fail, they are never skipped. */
export const startBrowser = async (): Promise<Browser> => {
  const executablePath = process.env["MINI_CHAT_CHROMIUM"] ?? places.find((place) => existsSync(place));
  if (executablePath === undefined) {
    throw new Error(
      "the tests of the page need Chromium: install Debian's package chromium, or set MINI_CHAT_CHROMIUM",
    );
  }
  return chromium.launch({
    executablePath,
    // As root, and where /dev/shm is small.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"],
  });
};

/** A page with what went wrong in it. */
export interface Tab {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Uncaught errors, violations of the policy, and requests to anything but the server. */
  readonly complaints: string[];
}

export interface TabOptions {
  /** Null: not signed in. */
  readonly token?: string | null;
  readonly path?: string;
  readonly context?: BrowserContext;
  readonly browser?: BrowserContextOptions;
}

/** Opens the page, signed in as Ann by default. */
export const openTab = async (browser: Browser, origin: string, options: TabOptions = {}): Promise<Tab> => {
  const { token = callers.ann.token, path = "/" } = options;
  const context = options.context ?? (await browser.newContext(options.browser));
  const page = await context.newPage();
  // Of a machine that has much else to do; below the limit of a test, so that it says what was waited for.
  page.setDefaultTimeout(25_000);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !/^(data|blob):/.test(url)) complaints.push(`request: ${url}`);
  });
  if (token !== null) {
    await page.addInitScript((value) => {
      if (sessionStorage.getItem("tested") !== null) return;
      sessionStorage.setItem("tested", "yes");
      sessionStorage.setItem("mini-chat.token", value);
    }, token);
  }
  await page.goto(`${origin}${path}`);
  return { page, context, complaints };
};
