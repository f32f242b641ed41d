import { expect, test } from "vitest";
import { pluginsSection } from "../../src/config/policy.ts";
import { ConfigError } from "../../src/config/schema.ts";
import { createStaticPlugin } from "../../src/policy/static-plugin.ts";
import { turnUsageEvent } from "../../src/usage/event.ts";
import { recordingLogger } from "../http/support.ts";
import { completedTurn } from "../usage/samples.ts";
import { asDefault, providerIds, type RawEntry, rawEntry, user } from "./support.ts";

const settings = (change: object) =>
  pluginsSection.parse({ model_policy: { static: { model_catalog: [], ...change } } }).model_policy.static;

const create = (change: object = {}) => {
  const { logger, lines } = recordingLogger();
  const clock = { now: () => 1_700_000_000_000 };
  return { plugin: createStaticPlugin(settings(change), { providerIds, clock, logger }), lines };
};

test.each<[string, readonly RawEntry[], readonly string[]]>([
  ["a tier spelled PREMIUM", [rawEntry({ tier: "PREMIUM" })], ["model_catalog[0].tier"]],
  [
    "multiplier 0",
    [rawEntry({ input_tokens_credit_multiplier_micro: 0 })],
    ["model_catalog[0].input_tokens_credit_multiplier_micro"],
  ],
  ["a duplicate id", [rawEntry(), rawEntry()], ["model_catalog[1].id"]],
  [
    "two enabled defaults in a tier",
    [rawEntry(asDefault), rawEntry({ id: "t", ...asDefault })],
    ["model_catalog[1].preference.is_default"],
  ],
  [
    "several of them",
    [rawEntry({ tier: 1 }), rawEntry({ id: "" })],
    ["model_catalog[0].tier", "model_catalog[1].id"],
  ],
])("%s stops the start and is named in full", (_name, catalog, keys) => {
  const start = () => create({ model_catalog: catalog });
  expect(start).toThrow(ConfigError);
  try {
    start();
  } catch (error) {
    expect(error instanceof ConfigError && error.problems.map(({ key }) => key)).toEqual(
      keys.map((key) => `plugins.model_policy.static.${key}`),
    );
  }
});

test("it serves version 1 with the configured catalog, switches and limits to everybody", async () => {
  const { plugin } = create({
    model_catalog: [rawEntry()],
    kill_switches: { disable_images: true },
    default_premium_limits: { limit_daily_credits_micro: 0, limit_monthly_credits_micro: 7 },
  });
  expect(await plugin.getCurrentPolicyVersion(user)).toEqual({
    policyVersion: 1n,
    generatedAt: new Date(1_700_000_000_000),
  });
  const snapshot = await plugin.getPolicySnapshot(user, 1n);
  expect(snapshot.policyVersion).toBe(1n);
  expect(snapshot.modelCatalog.map(({ id }) => id)).toEqual(["s"]);
  expect(snapshot.killSwitches.disableImages).toBe(true);
  expect(await plugin.getUserLimits(user, 1n)).toEqual({
    standard: { daily: 100_000_000n, monthly: 1_000_000_000n },
    premium: { daily: 0n, monthly: 7n },
  });
  expect(await plugin.checkUserLicense?.(user)).toEqual({ active: true });
});

test("it knows no other version", async () => {
  const { plugin } = create();
  await expect(plugin.getPolicySnapshot(user, 2n)).rejects.toMatchObject({ kind: "not_found" });
  await expect(plugin.getUserLimits(user, 2n)).rejects.toMatchObject({ kind: "not_found" });
});

test("usage is published to the log, at debug", async () => {
  const { plugin, lines } = create();
  const event = turnUsageEvent(completedTurn);
  await plugin.publishUsage(event);
  expect(lines).toEqual([{ level: "debug", msg: "usage event", event }]);
});
