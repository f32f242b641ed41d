import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true } as const;

const overhang = (page: Page): Promise<number> =>
  page.evaluate(() => {
    const messages = document.querySelector(".messages");
    return Math.max(
      document.documentElement.scrollWidth - innerWidth,
      messages === null ? 0 : messages.scrollWidth - messages.clientWidth,
    );
  });

const inView = async (page: Page, name: string): Promise<boolean> => {
  const box = await page.getByRole("textbox", { name }).boundingBox();
  return box !== null && box.y >= 0 && box.y + box.height <= phone.viewport.height;
};

test("on a phone a chat is asked, read, left by the menu and found again", async () => {
  const word = "incomprehensibilities".repeat(40);
  const wide = `| ${Array.from({ length: 20 }, (_, at) => `column ${at}`).join(" | ")} |\n|${"---|".repeat(20)}\n`;
  const text = `${word}\n\n\`\`\`ts\nconst a = "${word}";\n\`\`\`\n\n${wide}\n\nhttps://example.com/${word}`;
  stage.app.simulator.enqueue({ events: [{ text }] });
  const { page } = await stage.open({ browser: phone });
  await page.getByRole("heading", { level: 1 }).waitFor();
  expect(await overhang(page)).toBe(0);
  expect(await inView(page, "Message")).toBe(true);
  await ask(page, `phone ${word}`);
  await answered(page);
  expect(await overhang(page)).toBe(0);
  expect(await inView(page, "Message")).toBe(true);
  const list = page.getByRole("navigation", { name: "Chats" });
  expect(await list.isVisible()).toBe(false);
  await page.getByRole("button", { name: "Show the list of chats" }).click();
  await list.getByRole("link", { name: "New chat" }).click();
  await list.waitFor({ state: "hidden" });
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.getByRole("button", { name: "Show the list of chats" }).click();
  await list.getByRole("link", { name: /^phone/ }).click();
  await page.getByRole("region", { name: "Messages" }).locator(".markdown").first().waitFor();
  expect(await overhang(page)).toBe(0);
});

test("on a phone the actions of a question end above its answer", async () => {
  const { page } = await stage.open({ browser: phone });
  await ask(page, "PING");
  await answered(page);
  const actions = await page.locator(".row-question .row-actions").boundingBox();
  const answer = await page.getByText("PONG").boundingBox();
  if (actions === null || answer === null) throw new Error("nothing is shown");
  expect(actions.y + actions.height).toBeLessThanOrEqual(answer.y);
});

describe("the list over the chat", () => {
  const opened = async (): Promise<Page> => {
    const chatId = await stage.app.createChat();
    const { page } = await stage.open({ path: chatPath(chatId), browser: { viewport: phone.viewport } });
    await page.getByText("Nothing here yet").waitFor();
    await page.getByRole("button", { name: "Show the list of chats" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("navigation", { name: "Chats" }).waitFor();
    return page;
  };

  const focused = (page: Page): Promise<string | null> =>
    page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? null);

  test("takes the focus, keeps it, and gives it back", async () => {
    const page = await opened();
    await expect.poll(() => focused(page)).toBe("Close the list of chats");
    for (let step = 0; step < 12; step += 1) {
      await page.keyboard.press("Tab");
      expect(await page.evaluate(() => document.activeElement?.closest("main") ?? null)).toBeNull();
    }
    await page.keyboard.press("Escape");
    await page.getByRole("navigation", { name: "Chats" }).waitFor({ state: "hidden" });
    expect(await focused(page)).toBe("Show the list of chats");
  });

  test("closes by a touch beside it", async () => {
    const page = await opened();
    await page.mouse.click(380, 400);
    await page.getByRole("navigation", { name: "Chats" }).waitFor({ state: "hidden" });
  });
});
