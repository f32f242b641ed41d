import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { answered, ask, setStage } from "./support/stage.ts";

const stage = setStage();

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Findings that keep somebody from using the page, with where they are. */
const findings = async (page: Page): Promise<readonly string[]> => {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const run: {
      run(
        options: object,
      ): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }>;
    } = Reflect.get(window, "axe");
    const { violations } = await run.run({ resultTypes: ["violations"] });
    return violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`));
  });
};

const rich =
  "# Title\n\nText with `code` and [a link](https://example.com).\n\n```js\nconst a = 1; // note\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quote\n\n- [x] task";

describe.each(["light", "dark"] as const)("in %s colours", (colorScheme) => {
  test.each([
    ["wide", 1_200],
    ["narrow", 380],
  ])(
    "no view has a serious finding, %s",
    async (_name, width) => {
      const browser = { colorScheme, viewport: { width, height: 800 }, reducedMotion: "reduce" } as const;
      const door = await stage.open({ token: null, browser });
      await door.page.getByLabel("Access token").waitFor();
      expect(await findings(door.page), "sign-in").toEqual([]);
      const { page } = await stage.open({ browser });
      await page.getByRole("button", { name: /^Model: / }).waitFor();
      expect(await findings(page), "new chat").toEqual([]);
      await page.getByRole("button", { name: "Web search" }).click();
      await ask(page, "SEARCH: axe");
      await answered(page);
      stage.app.simulator.enqueue({ events: [{ text: rich }] });
      await ask(page, "show everything");
      await answered(page);
      expect(await findings(page), "conversation").toEqual([]);
      await page.getByRole("button", { name: "Delete message and answer" }).click();
      await page.getByRole("dialog").waitFor();
      expect(await findings(page), "dialog").toEqual([]);
      await page.keyboard.press("Escape");
      if (width < 700) await page.getByRole("button", { name: "Show the list of chats" }).click();
      await page.getByText("Quota", { exact: true }).click();
      await page
        .getByRole("button", { name: /^Actions for / })
        .first()
        .click();
      await page.getByRole("menu").waitFor();
      expect(await findings(page), "menu").toEqual([]);
      await page.keyboard.press("Escape");
      await page.getByRole("searchbox").fill("everything");
      await page.locator("mark").first().waitFor();
      expect(await findings(page), "search").toEqual([]);
    },
    60_000,
  );
});
