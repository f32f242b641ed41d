import { describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { asTenantId, asUserId } from "../../src/auth/actor.ts";
import { createLicenseGate } from "../../src/auth/license.ts";
import { actorA, configOf, refusalOf, tenantA, tenantB, userB } from "./support.ts";

const actorB: Actor = { ...actorA, userId: asUserId(userB) };
const elsewhere: Actor = { ...actorA, tenantId: asTenantId(tenantB) };

describe("static (policy.md §14)", () => {
  test.each<[string, readonly string[], readonly [boolean, boolean]]>([
    ["every tenant", ["*"], [true, true]],
    ["one tenant", [tenantA], [true, false]],
    ["one tenant in upper case", [tenantA.toUpperCase()], [true, false]],
    ["two tenants", [tenantB, tenantA], [true, true]],
    ["no tenant", [], [false, false]],
  ])("%s", async (_case, tenants, expected) => {
    const gate = createLicenseGate(configOf({ license: { tenants } }).license);
    expect([await gate.isLicensed(actorA), await gate.isLicensed(elsewhere)]).toEqual(expected);
  });
});

/** A gate that asks a plugin which does what the test says, on a clock the test moves. */
const pluginGate = () => {
  const state = { now: 0, asked: [] as Actor[], answer: async () => ({ active: true }) };
  const gate = createLicenseGate(configOf({ license: { mode: "plugin" } }).license, {
    clock: { now: () => state.now },
    checkUserLicense: async (actor) => {
      state.asked.push(actor);
      return state.answer();
    },
  });
  return { state, gate };
};

const failing = async (): Promise<never> => {
  throw new Error("down");
};

const unavailable = ["service_unavailable", 503];

describe("plugin (policy.md §14)", () => {
  test.each([true, false])("an answer of %s holds for 60 s", async (active) => {
    const { state, gate } = pluginGate();
    state.answer = async () => ({ active });
    const seen: [boolean, number][] = [];
    for (const now of [0, 1, 59_999, 60_000, 119_999, 120_000]) {
      state.now = now;
      seen.push([await gate.isLicensed(actorA), state.asked.length]);
    }
    expect(seen.map(([answer]) => answer)).toEqual(seen.map(() => active));
    expect(seen.map(([, asked]) => asked)).toEqual([1, 1, 1, 2, 2, 3]);
  });

  test("a withdrawn licence is noticed after 60 s", async () => {
    const { state, gate } = pluginGate();
    expect(await gate.isLicensed(actorA)).toBe(true);
    state.answer = async () => ({ active: false });
    state.now = 59_999;
    expect(await gate.isLicensed(actorA)).toBe(true);
    state.now = 60_000;
    expect(await gate.isLicensed(actorA)).toBe(false);
  });

  test("each user of each tenant is asked about", async () => {
    const { state, gate } = pluginGate();
    await Promise.all([actorA, actorB, elsewhere].map((actor) => gate.isLicensed(actor)));
    await Promise.all([actorA, actorB, elsewhere].map((actor) => gate.isLicensed(actor)));
    expect(state.asked).toEqual([actorA, actorB, elsewhere]);
  });

  test("requests of one user at once share a question", async () => {
    const { state, gate } = pluginGate();
    const answers = await Promise.all(Array.from({ length: 10 }, () => gate.isLicensed(actorA)));
    expect(answers).toEqual(answers.map(() => true));
    expect(state.asked).toHaveLength(1);
  });

  test("an error without an earlier answer is 503, for all who wait, and is not remembered", async () => {
    const { state, gate } = pluginGate();
    state.answer = failing;
    const outcomes = await Promise.all([gate.isLicensed(actorA), gate.isLicensed(actorA)].map(refusalOf));
    expect(outcomes).toEqual([unavailable, unavailable]);
    state.answer = async () => ({ active: true });
    expect(await gate.isLicensed(actorA)).toBe(true);
  });

  test("another user's answer is no answer", async () => {
    const { state, gate } = pluginGate();
    await gate.isLicensed(actorA);
    state.answer = failing;
    expect(await refusalOf(gate.isLicensed(actorB))).toEqual(unavailable);
    expect(await refusalOf(gate.isLicensed(elsewhere))).toEqual(unavailable);
  });

  test.each([true, false])(
    "while the plugin fails, its last answer of %s holds for 15 minutes",
    async (active) => {
      const { state, gate } = pluginGate();
      state.answer = async () => ({ active });
      await gate.isLicensed(actorA);
      state.answer = failing;
      state.now = 899_999;
      expect(await gate.isLicensed(actorA)).toBe(active);
      state.now = 900_000;
      expect(await refusalOf(gate.isLicensed(actorA))).toEqual(unavailable);
    },
  );

  test("it cannot be made without a plugin", () => {
    expect(() => createLicenseGate(configOf({ license: { mode: "plugin" } }).license)).toThrow(/plugin/);
  });
});
