import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { answered, chatPath, type Stage, setStage } from "./support/stage.ts";

const passage = "The lantern room of the Skerry light is painted blue every third spring.";
const filename = "skerry-light.txt";

/** Uploads the file for real and asks about it. */
const askAboutFile = async (stage: Stage): Promise<Page> => {
  const { page } = await stage.open({ path: chatPath(await stage.app.createChat()) });
  await page.getByText("Nothing here yet").waitFor();
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: filename, mimeType: "text/plain", buffer: Buffer.from(passage) }]);
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+ B$/)
    .waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("What colour is the lantern room?");
  await page.keyboard.press("Enter");
  await page.getByText("Read your files").waitFor();
  await answered(page);
  return page;
};

const chatIdOf = (page: Page): string => /[0-9a-f-]{36}/.exec(page.url())?.[0] ?? "";

const showsPassage = async (page: Page): Promise<void> => {
  const dialog = page.getByRole("dialog", { name: filename });
  await dialog.getByText(passage).waitFor();
  expect(await dialog.getByRole("link").count()).toBe(0);
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
};

const opensFromList = async (page: Page): Promise<void> => {
  await page.getByRole("list", { name: "Sources" }).getByRole("button", { name: filename }).first().click();
  await showsPassage(page);
};

describe("searched by the provider", () => {
  const stage = setStage({
    config: { providers: { sim: { storage_kind: "openai" } }, rag: { index_wait_secs: 5 } },
  });

  test("an answer from an uploaded file names it and opens the passage, after a reload too", async () => {
    const page = await askAboutFile(stage);
    await opensFromList(page);
    await page.reload();
    await opensFromList(page);
  });
});

describe("searched by the server", () => {
  const stage = setStage({
    config: { providers: { sim: { storage_kind: "local" } }, rag: { index_wait_secs: 5 } },
  });

  test("a marker in the answer is a number that opens its passage, after a reload too", async () => {
    const page = await askAboutFile(stage);
    const messages = page.getByRole("region", { name: "Messages" });
    for (const again of [false, true]) {
      if (again) await page.reload();
      await opensFromList(page);
      expect(await messages.getByText("[cite:").count()).toBe(0);
      await messages.getByRole("button", { name: `Source 1: ${filename}` }).click();
      await page.getByRole("dialog").getByText("line 1").waitFor();
      await showsPassage(page);
    }
  });

  test("a marker is not seen while the answer comes, and one in code stays as it is", async () => {
    const page = await askAboutFile(stage);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    stage.app.simulator.enqueue({
      events: [
        { text: "Painted [cite:1] blue" },
        { wait_for: "seen" },
        { text: ", written `[cite:1]`, not [cite:99]." },
      ],
    });
    await page.getByRole("textbox", { name: "Message" }).fill("And the lantern room?");
    await page.keyboard.press("Enter");
    const painted = page.locator(".markdown", { hasText: /^Painted/ });
    await painted.getByText("blue").waitFor();
    expect(await painted.textContent()).not.toContain("[cite:");
    stage.app.simulator.open("seen");
    await answered(page);
    await painted.getByRole("button", { name: `Source 1: ${filename}` }).waitFor();
    expect((await painted.textContent())?.trim()).toBe("Painted 1 blue, written [cite:1], not .");
    await page.getByRole("button", { name: "Copy answer" }).last().click();
    await page.getByText("Copied.").waitFor({ state: "attached" });
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(
      `Painted [1] blue, written \`[cite:1]\`, not .\n\nSources:\n[1] ${filename}, line 1\n[2] ${filename}, line 1`,
    );
  });

  test("a marker is not seen before its source is known", async () => {
    const page = await askAboutFile(stage);
    const known = Promise.withResolvers<void>();
    await page.route(/\/export\?/, async (route) => {
      await known.promise;
      await route.continue();
    });
    const asked = page.waitForRequest(/\/export\?/);
    await page.reload();
    await asked;
    const messages = page.getByRole("region", { name: "Messages" });
    await messages.getByText(/every third spring/).waitFor();
    expect(await messages.getByText("[cite:").count()).toBe(0);
    known.resolve();
    await messages.getByRole("button", { name: `Source 1: ${filename}` }).waitFor();
  }, 90_000);

  test("in a chat too long to look for sources markers are left out, and new answers have theirs", async () => {
    const page = await askAboutFile(stage);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    const chatId = chatIdOf(page);
    const { tenantId } = callers.ann;
    await stage.app.db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
       select gen_random_uuid(), $1, $2, gen_random_uuid(), 'user', 'said long ago', now() - interval '1 day'
       from generate_series(1, 1000)`,
      [tenantId, chatId],
    );
    const counted = page.waitForResponse((response) => response.url().endsWith(`/chats/${chatId}`));
    await page.reload();
    await (await counted).finished();
    const messages = page.getByRole("region", { name: "Messages" });
    await messages.getByText(/every third spring/).waitFor();
    expect(await messages.getByText("[cite:").count()).toBe(0);
    await page.getByRole("button", { name: "Copy answer" }).last().click();
    await page.getByText("Copied.").waitFor({ state: "attached" });
    expect(await page.evaluate(() => navigator.clipboard.readText())).not.toContain("[cite:");
    await page.getByRole("textbox", { name: "Message" }).fill("What colour is the lantern room now?");
    await page.keyboard.press("Enter");
    await messages.getByRole("button", { name: `Source 1: ${filename}` }).waitFor();
  }, 90_000);

  test("an older answer has its sources once it is read", async () => {
    const page = await askAboutFile(stage);
    const chatId = chatIdOf(page);
    for (let at = 0; at < 30; at += 1) await stage.app.ask(chatId, `question ${at} of many`);
    await page.reload();
    await answered(page);
    const messages = page.getByRole("region", { name: "Messages" });
    await expect
      .poll(async () => {
        await messages.evaluate((box) => box.scrollTo(0, 0));
        return messages.getByText("What colour is the lantern room?").count();
      })
      .toBe(1);
    await messages
      .getByRole("button", { name: `Source 1: ${filename}` })
      .first()
      .waitFor();
    expect(await messages.getByText("[cite:").count()).toBe(0);
  });
});
