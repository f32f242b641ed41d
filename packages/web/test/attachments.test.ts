import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { eventually } from "../../server/test/support/app.ts";
import { modelEntry } from "../../server/test/support/config.ts";
import { chatPath, setStage } from "./support/stage.ts";

const seeing = modelEntry("standard", {
  multimodal_capabilities: ["VISION_INPUT"],
  preference: { is_default: true, sort_order: 0 },
});

const stage = setStage({ config: { plugins: { model_policy: { static: { model_catalog: [seeing] } } } } });

const pixel =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/** Answers uploads in the server's place; what was uploaded, by name. */
const takeUploads = async (page: Page, status: "ready" | "refused" = "ready"): Promise<string[]> => {
  const names: string[] = [];
  await page.route("**/attachments", async (route) => {
    const body = route.request().postDataBuffer()?.toString("latin1") ?? "";
    const filename = /filename="([^"]+)"/.exec(body)?.[1] ?? "";
    names.push(filename);
    if (status === "refused") {
      const problem = {
        type: "about:blank",
        title: "x",
        status: 415,
        code: "unsupported_file_type",
        detail: "This type of file is not supported.",
      };
      await route.fulfill({
        status: 415,
        contentType: "application/problem+json",
        body: JSON.stringify(problem),
      });
      return;
    }
    const id = `0000000${names.length}-0000-4000-8000-000000000000`;
    const attachment = {
      id,
      kind: "image",
      filename,
      status: "ready",
      size_bytes: 68,
      content_type: "image/png",
      created_at: new Date().toISOString(),
    };
    await route.fulfill({ status: 201, contentType: "application/json", body: JSON.stringify(attachment) });
  });
  return names;
};

const openChat = async (): Promise<Page> => {
  const { page } = await stage.open({ path: chatPath(await stage.app.createChat()) });
  await page.getByText("Nothing here yet").waitFor();
  return page;
};

test("files are attached by the button and go with the message", async () => {
  const page = await openChat();
  await takeUploads(page);
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "one.png", mimeType: "image/png", buffer: Buffer.from(pixel, "base64") }]);
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+ B$/)
    .waitFor();
  expect(await page.locator(".file-chip img").getAttribute("src")).toMatch(/^blob:/);
  await page.getByRole("textbox", { name: "Message" }).fill("look");
  const [request] = await Promise.all([
    page.waitForRequest((one) => one.url().endsWith("messages:stream")),
    page.getByRole("button", { name: "Send message" }).click(),
  ]);
  expect(request.postDataJSON().attachment_ids).toEqual(["00000001-0000-4000-8000-000000000000"]);
});

test.each(["drop", "paste"] as const)("files are attached by %s", async (way) => {
  const page = await openChat();
  const names = await takeUploads(page);
  const target = way === "drop" ? page.locator(".chat") : page.getByRole("textbox", { name: "Message" });
  await target.evaluate((element, kind) => {
    const data = new DataTransfer();
    data.items.add(new File(["hello"], "dropped.txt", { type: "text/plain" }));
    const event =
      kind === "drop"
        ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
    element.dispatchEvent(event);
  }, way);
  await page.getByRole("list", { name: "Attached files" }).getByText("dropped.txt").waitFor();
  await expect.poll(() => names).toEqual(["dropped.txt"]);
});

test("a file that is refused says why, keeps nothing back, and can be taken out", async () => {
  const page = await openChat();
  await takeUploads(page, "refused");
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "bad.exe", mimeType: "application/octet-stream", buffer: Buffer.from("MZ") }]);
  await page.getByText("This type of file is not supported.").waitFor();
  await page.getByRole("button", { name: "Remove bad.exe" }).click();
  await page.getByText("bad.exe").waitFor({ state: "detached" });
});

test("a picture is uploaded for real, goes to the model, and is shown with the message after a reload", async () => {
  const page = await openChat();
  const canvas = await page.evaluate(async () => {
    const drawn = new OffscreenCanvas(320, 200);
    drawn.getContext("2d")?.fillRect(20, 20, 100, 100);
    const bytes = new Uint8Array(await (await drawn.convertToBlob({ type: "image/png" })).arrayBuffer());
    return [...bytes];
  });
  const file = { name: "drawn.png", mimeType: "image/png", buffer: Buffer.from(canvas) };
  await page.getByLabel("Choose files").setInputFiles([file]);
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+(\.\d+)? (B|KB)$/)
    .waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("PING");
  await page.getByRole("button", { name: "Send message" }).click();
  await page.getByText("PONG").waitFor();
  await page.reload();
  const attached = page.getByRole("list", { name: "Attachments" });
  await attached.getByText("drawn.png").waitFor();
  expect(await attached.locator("img").getAttribute("src")).toMatch(/^data:image\/webp;base64,/);
});

test("a file that is taken out while it is processed does not stay in the chat", async () => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("Nothing here yet").waitFor();
  const answered = Promise.withResolvers<string>();
  const taken = Promise.withResolvers<void>();
  await page.route("**/attachments", async (route) => {
    const response = await route.fetch();
    answered.resolve((await response.json()).id);
    await taken.promise;
    await route.fulfill({ response });
  });
  // A request that is intercepted tells nothing of its progress.
  await page.evaluate(() => {
    const { send } = XMLHttpRequest.prototype;
    XMLHttpRequest.prototype.send = function (body) {
      send.call(this, body);
      this.upload.dispatchEvent(new ProgressEvent("progress", { loaded: 1, total: 1 }));
    };
  });
  await page
    .getByLabel("Choose files")
    .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]);
  await page.getByText("Processing…").waitFor();
  const id = await answered.promise;
  await page.getByRole("button", { name: "Remove notes.txt" }).click();
  taken.resolve();
  await eventually(
    async () => (await stage.app.call("GET", `/chats/${chatId}/attachments/${id}`)).status === 404,
  );
});

test("a refused message comes back whole, before what was begun meanwhile; its file is still taken out for real", async () => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("Nothing here yet").waitFor();
  const begun = Promise.withResolvers<void>();
  await page.route("**/messages:stream", async (route) => {
    await begun.promise;
    const problem = { type: "about:blank", title: "Too many requests", status: 429, code: "rate_limited" };
    await route.fulfill({
      status: 429,
      contentType: "application/problem+json",
      body: JSON.stringify(problem),
    });
  });
  const [response] = await Promise.all([
    page.waitForResponse((one) => one.url().endsWith("/attachments")),
    page
      .getByLabel("Choose files")
      .setInputFiles([{ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("Notes.") }]),
  ]);
  const { id } = await response.json();
  await page
    .getByRole("list", { name: "Attached files" })
    .getByText(/^\d+ B$/)
    .waitFor();
  const message = page.getByRole("textbox", { name: "Message" });
  await message.fill("A long and careful message");
  await message.press("Enter");
  await page.getByRole("button", { name: "Stop the answer" }).waitFor();
  await message.fill("And another");
  begun.resolve();
  await page.getByRole("button", { name: "Remove notes.txt" }).waitFor();
  expect(await message.inputValue()).toBe("A long and careful message\n\nAnd another");
  await page.getByRole("button", { name: "Remove notes.txt" }).click();
  await eventually(
    async () => (await stage.app.call("GET", `/chats/${chatId}/attachments/${id}`)).status === 404,
  );
});
