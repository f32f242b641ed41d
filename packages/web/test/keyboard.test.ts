import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { answered, setStage } from "./support/stage.ts";

const stage = setStage();

/** What the focus is on, as a screen reader names it. */
const focused = (page: Page): Promise<string> =>
  page.evaluate(() => {
    const { activeElement: element } = document;
    if (element === null) return "";
    const labelled = element.getAttribute("aria-label") ?? element.closest("label")?.textContent;
    return (labelled ?? element.textContent ?? "").trim();
  });

type Step = "Tab" | "Shift+Tab" | "ArrowDown";

/** Presses a key until the focus is there; a keyboard has no other way. */
const walkTo = async (page: Page, name: string | RegExp, key: Step = "Tab"): Promise<void> => {
  const seen: string[] = [];
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press(key);
    const now = await focused(page);
    if (typeof name === "string" ? now === name : name.test(now)) return;
    seen.push(now);
  }
  throw new Error(`never at ${name}: ${seen.join(" | ")}`);
};

test("a conversation by the keyboard alone, from the door to the way out", async () => {
  const { page } = await stage.open({ token: null });
  await page.getByLabel("Access token").waitFor();
  await walkTo(page, "Access token");
  await page.keyboard.type(callers.ann.token);
  await page.keyboard.press("Enter");
  const message = page.getByRole("textbox", { name: "Message" });
  await message.waitFor();
  await expect.poll(() => focused(page)).toBe("Message");

  await walkTo(page, "Model: Default model", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("menuitemradio", { name: /premium/ }).waitFor();
  await walkTo(page, /^premium/, "ArrowDown");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Model: premium" }).waitFor();
  await expect.poll(() => focused(page)).toBe("Model: premium");

  await walkTo(page, "Message");
  await page.keyboard.type("PING");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Enter");
  await answered(page);
  await expect.poll(() => focused(page)).toBe("Message");

  await walkTo(page, "Good answer", "Shift+Tab");
  await page.keyboard.press("Space");
  await page.getByRole("button", { name: "Good answer", pressed: true }).waitFor();

  await walkTo(page, "Edit message", "Shift+Tab");
  await page.keyboard.press("Enter");
  await expect.poll(() => focused(page)).toBe("Edit message");
  await page.keyboard.press("Escape");
  await expect.poll(() => focused(page)).toBe("Edit message");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Control+A");
  await page.keyboard.type("again");
  await page.keyboard.press("Enter");
  await page.getByText("Hello from the simulator.").waitFor();
  await answered(page);
  await expect.poll(() => focused(page)).toBe("Message");

  await walkTo(page, "Answer again", "Shift+Tab");
  await page.keyboard.press("Enter");
  await expect.poll(() => focused(page)).toBe("Message");
  await answered(page);

  await walkTo(page, "Delete message and answer", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await walkTo(page, "Delete");
  await page.keyboard.press("Enter");
  await page.getByText("Nothing here yet").waitFor();
  await expect.poll(() => focused(page)).toBe("Message");

  await walkTo(page, "Sign out", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByLabel("Access token").waitFor();
}, 60_000);

test("an answer is stopped by the keyboard, and what was written meanwhile stays", async () => {
  stage.app.simulator.enqueue({
    events: [{ text: "The first half" }, { wait_for: "stopped" }, { text: "never" }],
  });
  const { page } = await stage.open();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  await expect.poll(() => focused(page)).toBe("Message");
  await page.keyboard.type("go");
  await page.keyboard.press("Enter");
  await page.getByText("The first half").waitFor();
  await page.keyboard.type("next");
  await page.keyboard.press("Enter");
  await walkTo(page, "Stop the answer");
  await page.keyboard.press("Enter");
  await page.getByText("You stopped this answer.").waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("next");
});
