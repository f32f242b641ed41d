import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

const lines = 10_000;
/** Several viewports of rows, whatever the length of the answer. */
const fewElements = 2_400;

const nothing = "";
const kinds = {
  "short paragraphs": Array.from(
    { length: lines },
    (_, at) => `Line ${at} of it.${at % 4 === 3 ? "\n" : nothing}`,
  ).join("\n"),
  "a list": Array.from({ length: lines }, (_, at) => `- item ${at} of it`).join("\n"),
  "one piece of code": `\`\`\`ts\n${Array.from({ length: lines }, (_, at) => `const line${at} = ${at};`).join("\n")}\n\`\`\``,
};

const elements = (page: Page): Promise<number> => page.evaluate(() => document.querySelectorAll("*").length);

/** Two frames: what was asked for is drawn. */
const drawn = (page: Page): Promise<void> =>
  page.evaluate(
    () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve()))),
  );

test.each(Object.entries(kinds))(
  "of an answer of 10,000 lines only what is visible exists: %s",
  async (_name, text) => {
    stage.app.simulator.enqueue({ events: [{ text }] });
    const { page } = await stage.open({ path: chatPath(await stage.app.createChat()) });
    await ask(page, "everything");
    await answered(page);
    const messages = page.getByRole("region", { name: "Messages" });
    await messages.getByText("9999", { exact: false }).first().waitFor();
    expect(await elements(page)).toBeLessThan(fewElements);
    const height = await messages.evaluate((box) => box.scrollHeight);
    for (const share of [0.75, 0.5, 0.25, 0]) {
      await messages.evaluate((box, top) => box.scrollTo(0, top), height * share);
      await drawn(page);
      expect(await elements(page)).toBeLessThan(fewElements);
    }
    await messages.getByText("everything").waitFor();
  },
  60_000,
);

test("what has come of a long answer is not drawn again while the rest comes", async () => {
  const paragraphs = Array.from({ length: 400 }, (_, at) => `Paragraph ${at} of the answer.\n\n`);
  stage.app.simulator.enqueue({
    events: [
      { text: paragraphs.slice(0, 200).join("") },
      { wait_for: "watched" },
      ...paragraphs.slice(200, 220).map((text) => ({ text, delay_ms: 20 })),
      { wait_for: "read" },
      ...paragraphs.slice(220).map((text) => ({ text })),
    ],
  });
  const { page } = await stage.open({ path: chatPath(await stage.app.createChat()) });
  await ask(page, "much");
  const messages = page.getByRole("region", { name: "Messages" });
  await messages.getByText("Paragraph 199 of").waitFor();
  await messages.evaluate((box) => box.scrollTo(0, 0));
  await messages.getByText("Paragraph 0 of").waitFor();
  await drawn(page);
  await messages.getByText("Paragraph 0 of").evaluate((element) => {
    const changes: string[] = [];
    const row = element.closest(".markdown") ?? element;
    Object.assign(window, { changes, row });
    new MutationObserver((records) => changes.push(...records.map(({ type }) => type))).observe(row, {
      subtree: true,
      childList: true,
      characterData: true,
      attributes: true,
    });
  });
  stage.app.simulator.open("watched");
  stage.app.simulator.open("read");
  await page.getByRole("button", { name: "Stop the answer" }).waitFor({ state: "detached" });
  expect(await page.evaluate(() => Reflect.get(window, "changes"))).toEqual([]);
  expect(await page.evaluate(() => Reflect.get(window, "row").isConnected)).toBe(true);
  expect(await messages.getByText("Paragraph 0 of").count()).toBe(1);
  expect(await messages.evaluate((box) => box.scrollTop)).toBe(0);
});

/** How far the list is from its end once its height has not changed for twenty frames. */
const settledDistance = (page: Page): Promise<number> =>
  page.getByRole("region", { name: "Messages" }).evaluate(
    (box) =>
      new Promise<number>((resolve) => {
        let height = box.scrollHeight;
        let still = 0;
        const frame = (): void => {
          still = box.scrollHeight === height ? still + 1 : 0;
          height = box.scrollHeight;
          if (still < 20) requestAnimationFrame(frame);
          else resolve(Math.round(height - box.clientHeight - box.scrollTop));
        };
        frame();
      }),
  );

test.each([
  ["short", 5, (at: number) => `Paragraph ${at} of it, ${"with some words ".repeat(6)}`],
  [
    "long",
    150,
    (at: number) =>
      at % 3 === 0 ? `\`\`\`\n${"a line of code\n".repeat(20)}\`\`\`` : "and many words more ".repeat(30),
  ],
] as const)(
  "a chat of %s answers opens at its end, whatever the height of their parts",
  async (_, parts, part) => {
    const chatId = await stage.app.createChat();
    const text = Array.from({ length: parts }, (_part, at) => part(at)).join("\n\n");
    for (let turn = 0; turn < 6; turn += 1) {
      stage.app.simulator.enqueue({ events: [{ text }] });
      await stage.app.ask(chatId, `question ${turn}`);
    }
    const { page } = await stage.open({ path: chatPath(chatId) });
    await answered(page);
    expect(await settledDistance(page)).toBeLessThan(2);
    expect(await page.getByRole("button", { name: "To the latest message" }).count()).toBe(0);
  },
);
