import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { expireLogs } from "../../src/turns/expire-logs.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import { type OpenedStream, openStream, type WireEvent } from "../support/stream.ts";
import { turnRow } from "./support.ts";

export let app: TestApp;
/** Another process on the same database. */
export let other: TestApp;

/** Two processes on one database and one provider, for the time of a test file. */
export const useTwoApps = (): void => {
  beforeAll(async () => {
    const config = {
      role: "api",
      providers: { sim: { expose_reasoning: true } },
      streaming: { sse_ping_interval_seconds: 5 },
    };
    app = await startTestApp({ config });
    const { database, simulator } = app;
    other = await startTestApp({ config, database, simulator });
  });
  afterEach(() => {
    app.simulator.clearScenarios();
  });
  afterAll(async () => {
    await other.close();
    await app.close();
  });
};

export interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

export interface Place {
  readonly at?: TestApp;
  readonly after?: string | number;
  readonly lastEventId?: string;
  readonly caller?: Caller;
}

export const resume = ({ chatId, requestId }: Turn, place: Place = {}): Promise<OpenedStream> => {
  const { at = other, after, lastEventId, caller = callers.ann } = place;
  const query = after === undefined ? "" : `?after=${after}`;
  return openStream(`${at.base}/chats/${chatId}/turns/${requestId}/stream${query}`, {
    method: "GET",
    headers: {
      authorization: `Bearer ${caller.token}`,
      ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
    },
  });
};

export const begin = async (
  scenario: Scenario,
  body: object = { on_disconnect: "continue" },
): Promise<Turn & { stream: OpenedStream }> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await app.send(chatId, { content: "hi", request_id: requestId, ...body });
  return { chatId, requestId, stream };
};

export const messageOf = async ({ chatId }: Turn): Promise<{ id: string; content: string } | undefined> =>
  (await app.call("GET", `/chats/${chatId}/messages`)).body.items.find(
    (item: { role: string }) => item.role === "assistant",
  );

export const names = (events: readonly WireEvent[]): string[] => events.map(({ event }) => event);
export const withoutWarnings = (events: readonly WireEvent[]): WireEvent[] =>
  events.map(({ data: { quota_warnings: _, ...data }, ...event }) => ({ ...event, data }));

export const citing: Scenario = {
  events: [
    { reasoning: "hm" },
    { text: "Found " },
    { tool: "web_search", phase: "start" },
    { tool: "web_search", phase: "done" },
    { text: "it." },
  ],
  citations: [
    { type: "url_citation", url: "https://example.com/a", title: "A", start_index: 0, end_index: 5 },
  ],
};
export const search = { on_disconnect: "continue", web_search: { enabled: true } };

/** Lets the retention of a turn's log pass, and of no other one. */
export const expire = async ({ requestId }: Turn): Promise<void> => {
  const { id } = await turnRow(app, requestId);
  await app.db.query("update turn_events set created_at = now() - interval '2 hours' where turn_id = $1", [
    id,
  ]);
  await app.db.query("update chat_turns set completed_at = now() - interval '2 hours' where id = $1", [id]);
  await expireLogs(app.db, 3_600, new AbortController().signal);
  const { rowCount } = await app.db.query("select from turn_events where turn_id = $1", [id]);
  expect(rowCount).toBe(0);
};
