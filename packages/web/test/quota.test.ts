import { expect, test } from "vitest";
import { modelEntry, premiumEntry } from "../../server/test/support/config.ts";
import { answered, ask, setStage } from "./support/stage.ts";

const limits = (limit_daily_credits_micro: number) => ({
  limit_daily_credits_micro,
  limit_monthly_credits_micro: limit_daily_credits_micro * 10,
});

const policy = (total: number, premium: number, catalog: object[]) => ({
  plugins: {
    model_policy: {
      static: {
        default_standard_limits: limits(total),
        default_premium_limits: limits(premium),
        model_catalog: catalog,
      },
    },
  },
});

const standard = modelEntry("standard");
const premium = premiumEntry("premium", { preference: { is_default: true, sort_order: 0 } });

const poor = setStage({ config: policy(1_000, 1_000, [standard]) });
const thrifty = setStage({ config: policy(900_000_000, 1_000, [premium, standard]) });

test("a quota that is used up refuses the message, says when it starts afresh, and keeps what was written", async () => {
  const { page } = await poor.open();
  await ask(page, "too dear");
  await page
    .getByText(/quota/)
    .filter({ hasText: /message|afresh/ })
    .first()
    .waitFor();
  expect(await page.getByRole("textbox", { name: "Message" }).inputValue()).toBe("too dear");
  await page.getByText("Nothing here yet").waitFor();
});

test("the meter shows what is left of each quota and when it starts afresh", async () => {
  const { page } = await thrifty.open();
  await page.getByText("Quota", { exact: true }).click();
  await page.getByText("All models, daily").waitFor();
  expect(await page.getByText(/^Resets (at|on) /).count()).toBe(4);
});

test("an answer of another model than the chosen one says which and why", async () => {
  const { page } = await thrifty.open();
  await page.getByRole("button", { name: "Model: Default model" }).waitFor();
  await ask(page, "PING");
  await answered(page);
  await page.getByText("Answered by standard: your premium quota is used up.").waitFor();
});
