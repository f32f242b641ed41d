import { expect, test } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { answered, ask, chatPath, setStage } from "./support/stage.ts";

const stage = setStage();

test("a wrong token is refused with a reason, the right one opens the chats", async () => {
  const { page } = await stage.open({ token: null });
  await page.getByLabel("Access token").fill("wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("The server does not accept this token.").waitFor();
  await page.getByLabel("Access token").fill(callers.ann.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
});

test("the link of the first start signs in on this machine, and leaves no token in the address", async () => {
  const { page } = await stage.open({ token: null, path: `/#token=${callers.ann.token}` });
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  expect(page.url()).not.toContain(callers.ann.token);
});

test("the page itself holds no token", async () => {
  const html = await (await fetch(`${stage.origin}/`)).text();
  for (const { token } of Object.values(callers)) expect(html).not.toContain(token);
});

test("a token that expires in the middle asks for another one, and what was written goes on", async () => {
  const chatId = await stage.app.createChat();
  const { page } = await stage.open({ path: chatPath(chatId) });
  await page.getByText("Nothing here yet").waitFor();
  let expired = true;
  await page.route("**/v1/**", (route) =>
    expired
      ? route.fulfill({
          status: 401,
          contentType: "application/problem+json",
          body: JSON.stringify({
            type: "about:blank",
            title: "Unauthorized",
            status: 401,
            code: "unauthorized",
            detail: "",
          }),
        })
      : route.continue(),
  );
  await ask(page, "PING");
  await page.getByRole("dialog").getByText("Your session has ended.").waitFor();
  expired = false;
  await page.getByLabel("Access token").fill(callers.ann.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("PONG").waitFor();
  await answered(page);
});

test("the models are read once when the page is opened", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: /^Model: / }).waitFor();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
  const reads = await page.evaluate(
    () => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/v1/models")).length,
  );
  expect(reads).toBe(1);
});

test("signing out forgets the token", async () => {
  const { page } = await stage.open();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Access token").waitFor();
  await page.reload();
  await page.getByLabel("Access token").waitFor();
});
