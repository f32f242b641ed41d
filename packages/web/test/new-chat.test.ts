import { expect, test } from "vitest";
import { modelEntry, premiumEntry } from "../../server/test/support/config.ts";
import { answered, ask, setStage } from "./support/stage.ts";

const stage = setStage({
  config: {
    plugins: {
      model_policy: {
        static: {
          model_catalog: [
            modelEntry("standard"),
            premiumEntry("premium", { preference: { is_default: true, sort_order: 0 } }),
          ],
        },
      },
    },
  },
});

const chatAt = async (url: string): Promise<Record<string, unknown>> =>
  (await stage.app.call("GET", `/chats/${/chats\/([0-9a-f-]+)/.exec(url)?.[1]}`)).body;

test("without a choice the model is the server's, and no other is shown", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING");
  await answered(page);
  expect(await chatAt(page.url())).toMatchObject({ model: "premium" });
});

test("the first file makes the chat as it was chosen, and what was written goes along", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Model: Default model" }).click();
  await page.getByRole("menuitemradio", { name: /standard/ }).click();
  await page.getByRole("button", { name: "Temporary chat" }).click();
  await page.getByText("This chat will be deleted by itself after a day.").waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("PING");
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]);
  const files = page.getByRole("list", { name: "Attached files" });
  await files.getByText(/^\d+ B$/).waitFor();
  expect(await page.getByRole("button", { name: "Temporary chat" }).count()).toBe(0);
  expect(await chatAt(page.url())).toMatchObject({ model: "standard", is_temporary: true });
  await page.getByRole("textbox", { name: "Message" }).press("Enter");
  await answered(page);
  await expect.poll(() => chatAt(page.url())).toMatchObject({ title: "PING" });
});

test("a draft waits in its chat, with its files, while another chat is looked at", async () => {
  const { page } = await stage.open();
  await ask(page, "PING");
  await answered(page);
  await page.getByRole("textbox", { name: "Message" }).fill("half a thought");
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]);
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+ B$/)
    .waitFor();
  const chat = page.url();
  await page.getByRole("link", { name: "New chat" }).first().click();
  await page.getByText("What would you like to know?").waitFor();
  await page.goBack();
  await page.waitForURL(chat);
  await page.getByRole("list", { name: "Attached files" }).getByText("notes.txt").waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("half a thought");
});
