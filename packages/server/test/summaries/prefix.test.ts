import { afterEach, describe, expect, test } from "vitest";
import { summaryPreamble } from "../../src/context/guards.ts";
import type { TestApp } from "../support/app.ts";
import { modelEntry } from "../support/config.ts";
import {
  catalog,
  chatCalls,
  inputOf,
  instructionsOf,
  sized,
  smallModel,
  summariesSettled,
  summaryApp,
} from "./support.ts";

let app: TestApp;
afterEach(() => app.close());

/** Fifty turns of 400 bytes a message, each after the summaries of the one before. */
const fiftyTurns = async (): Promise<string[][]> => {
  const chatId = await app.createChat();
  for (let at = 1; at <= 50; at += 1) {
    app.simulator.setDefault({ events: [{ text: sized(`answer ${at} `, 400) }] });
    await app.ask(chatId, sized(`question ${at} `, 400));
    await summariesSettled(app);
  }
  const calls = chatCalls(app);
  expect(calls).toHaveLength(50);
  expect(new Set(calls.map(instructionsOf)).size).toBe(1);
  return calls.map((call) => [instructionsOf(call), ...inputOf(call)]);
};

const bytes = (parts: readonly string[]): number =>
  parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0);

/** What of a request its provider has seen at the beginning of the last one. */
const shared = (last: readonly string[], next: readonly string[]): string[] => {
  const end = next.findIndex((part, at) => part !== last[at]);
  return next.slice(0, end < 0 ? undefined : end);
};

const pairs = (requests: readonly string[][]) =>
  requests
    .slice(1)
    .map((next, at): { last: string[]; next: string[] } => ({ last: requests[at] ?? [], next }));

const share = (of: readonly { last: string[]; next: string[] }[]): number =>
  of.reduce((sum, { last, next }) => sum + bytes(shared(last, next)), 0) /
  of.reduce((sum, { next }) => sum + bytes(next), 0);

describe("what a provider can take from its cache in a conversation of 50 turns", () => {
  test("a request continues the last one word for word: at least 90 % of its bytes are known", async () => {
    app = await summaryApp({
      config: {
        ...catalog(modelEntry("large", { system_prompt: "Be brief." })),
        context: { recent_messages_limit: 100 },
      },
    });
    const all = pairs(await fiftyTurns());
    for (const { last, next } of all) expect(next.slice(0, last.length)).toEqual(last);
    expect(share(all)).toBeGreaterThan(0.9);
  });

  test("in a small model it is broken by a new summary and the window that called for it, by nothing else", async () => {
    app = await summaryApp({
      config: catalog(smallModel({ system_prompt: sized("Be brief. ", 2_000) }), modelEntry("writer")),
    });
    const all = pairs(await fiftyTurns());
    const isSummary = (part: string | undefined): boolean =>
      part?.startsWith(`u:${summaryPreamble}`) === true;
    const fresh = all.filter(({ last, next }) => isSummary(next[1]) && next.length < last.length);
    const grown = all.filter(({ last, next }) => next.length > last.length);
    expect(fresh.length).toBeGreaterThan(5);
    for (const { last, next } of grown) expect(next.slice(0, last.length)).toEqual(last);
    const slid = all.length - fresh.length - grown.length;
    expect(slid).toBeLessThanOrEqual(fresh.length + 1);
  });
});
