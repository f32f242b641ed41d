import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startHost } from "../../../examples/embed/host.ts";
import { startTestApp, type TestApp } from "../../server/test/support/app.ts";
import { callers } from "../../server/test/support/config.ts";
import { startBrowser } from "./support/browser.ts";

let browser: Browser;
let stop: (() => Promise<void>)[] = [];

beforeAll(async () => {
  browser = await startBrowser();
});

afterEach(async () => {
  for (const close of stop.reverse()) await close();
  stop = [];
});

afterAll(async () => {
  await browser?.close();
});

const originOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const freePort = async (): Promise<number> => {
  const server = await startHost({ chat: "http://127.0.0.1:1", token: "none" });
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
};

/** A site with the chat in a frame; the chat allows `allowed`. */
const embed = async (options: {
  readonly allowed: (site: string) => readonly string[];
  readonly prefix?: string;
}) => {
  const port = await freePort();
  const app: TestApp = await startTestApp({
    config: {
      url_prefix: options.prefix ?? "",
      page: { title: "Harbour help", frame_ancestors: options.allowed(`http://127.0.0.1:${port}`) },
    },
  });
  stop.push(() => app.close());
  const chat = new URL(app.base).origin;
  const site = await startHost({ chat, token: callers.ann.token, port });
  stop.push(async () => {
    site.closeAllConnections();
    site.close();
  });
  const context = await browser.newContext();
  stop.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(12_000);
  return { app, page, site: originOf(site), chat };
};

test("a site that is allowed shows the chat and hands it a token", async () => {
  const { page, site } = await embed({ allowed: (origin) => [origin] });
  await page.goto(site);
  const frame = page.frameLocator("#chat");
  await frame.getByRole("textbox", { name: "Message" }).fill("PING");
  await frame.getByRole("button", { name: "Send message" }).click();
  await frame.getByText("PONG").waitFor();
  expect(await frame.getByRole("button", { name: "Sign out" }).count()).toBe(0);
});

test("by default no site can show the page in a frame", async () => {
  const { page, site, chat } = await embed({ allowed: () => [] });
  const refused = page.waitForEvent("console", (message) => /frame-ancestors/.test(message.text()));
  await page.goto(site);
  await refused;
  const policy = (await fetch(`${chat}/`)).headers.get("content-security-policy");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain("unsafe-inline");
});

test("a token from a window that is not the allowed site is not taken", async () => {
  const { page, site } = await embed({ allowed: (origin) => [origin, "https://other.example"] });
  await page.route("**/panel.js", (route) =>
    route.fulfill({
      contentType: "text/javascript",
      // A frame inside the site, of another origin, answers in its place.
      body: `const rogue = document.createElement("iframe");
        rogue.sandbox = "allow-scripts";
        rogue.srcdoc = "<script>setInterval(() => parent.frames[0].postMessage({ type: 'mini-chat:token', token: 'x' }, '*'), 50)<\\/script>";
        document.body.append(rogue);
        window.rogue = rogue;`,
    }),
  );
  await page.goto(site);
  await page.frameLocator("#chat").getByText("The site around this chat has not signed you in.").waitFor();
});

test("the page and the API work below a prefix", async () => {
  const { app, page, chat } = await embed({ allowed: () => [], prefix: "/cf/mini-chat" });
  await page.goto(`${chat}/cf/mini-chat#token=${callers.ann.token}`);
  expect(page.url()).toBe(`${chat}/cf/mini-chat/`);
  await page.getByRole("textbox", { name: "Message" }).fill("PING");
  await page.getByRole("button", { name: "Send message" }).click();
  await page.getByText("PONG").waitFor();
  expect((await fetch(`${app.base}/nothing`)).headers.get("content-type")).toContain("problem+json");
});

test("a site of the same origin hands over tokens by its function, and another one for a refused one", async () => {
  const { page, chat } = await embed({ allowed: () => ["self"] });
  await page.route(`${chat}/portal`, (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<script>
          window.refusals = [];
          window.miniChatToken = async (refused) => {
            window.refusals.push(refused ?? null);
            return refused === undefined ? "expired" : "${callers.ann.token}";
          };
        </script>
        <iframe id="chat" title="Chat" src="${chat}/" width="900" height="700"></iframe>`,
    }),
  );
  await page.goto(`${chat}/portal`);
  const frame = page.frameLocator("#chat");
  await frame.getByRole("textbox", { name: "Message" }).fill("PING");
  await frame.getByRole("button", { name: "Send message" }).click();
  await frame.getByText("PONG").waitFor();
  expect(await page.evaluate(() => Reflect.get(window, "refusals"))).toEqual([null, "expired"]);
  const stored = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]));
  expect(stored).not.toContain(callers.ann.token);
});

test("a function of the same origin that fails leaves the chat closed, until it is asked again", async () => {
  const { page, chat } = await embed({ allowed: () => ["self"] });
  await page.route(`${chat}/portal`, (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<script>
          window.miniChatToken = () => { throw new Error("nobody is signed in"); };
        </script>
        <iframe id="chat" title="Chat" src="${chat}/" width="900" height="700"></iframe>`,
    }),
  );
  await page.goto(`${chat}/portal`);
  const frame = page.frameLocator("#chat");
  await frame.getByText("The site around this chat has not signed you in.").waitFor();
  await page.evaluate((token) => Object.assign(window, { miniChatToken: () => token }), callers.ann.token);
  await frame.getByRole("button", { name: "Try again" }).click();
  await frame.getByRole("textbox", { name: "Message" }).waitFor();
});
