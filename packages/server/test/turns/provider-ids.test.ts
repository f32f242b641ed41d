import { afterAll, beforeAll, expect, test } from "vitest";
import { callApi, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { askAbout, providerIdOf, startFilesApp, uploaded } from "./files-support.ts";
import { mutate } from "./mutation-support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startFilesApp({
    config: {
      audit: { include_content: true },
      log: { level: "debug" },
      plugins: { audit: { type: "log" } },
    },
  });
});
afterAll(() => app.close());

/** Ids as the simulator gives them: of files, stores, responses, requests. */
const providerIds = /file-mock|vs_mock|re(sp|q)_mock/;

test("§23.19 nothing that leaves the process names anything as its provider does", async () => {
  const told: string[] = [];
  const listened = async (method: string, path: string, body?: unknown): Promise<void> => {
    const answer = await callApi(`${app.base}${path}`, method, { caller: callers.ann, body });
    told.push(JSON.stringify([answer.body, [...answer.headers]]));
  };
  const chatId = await app.createChat();
  const document = await uploaded(app, chatId, "document");
  const image = await uploaded(app, chatId, "image");
  const sheet = await uploaded(app, chatId, "sheet");
  const loose = await uploaded(app, chatId, "document");
  const ids = await Promise.all([document, image, sheet].map((id) => providerIdOf(app, id)));
  expect(ids.every((id) => providerIds.test(id))).toBe(true);
  const ask = async (content: string, body: object = {}): Promise<string> => {
    const { requestId, stream } = await askAbout(app, chatId, content, { body });
    told.push(stream.raw());
    return requestId;
  };
  const cited = await ask("How many items are due?", { attachment_ids: [document, image, sheet] });
  expect(told.at(-1)).toContain("event: citations");
  // What code prints, what an annotation quotes and what an error says may hold ids of the provider.
  app.simulator.enqueue(
    {
      events: [
        { tool: "code_interpreter", phase: "start" },
        { tool: "code_interpreter", phase: "done", outputs: [{ type: "logs", logs: `open ${ids[2]}` }] },
        { text: "ok" },
      ],
      citations: [{ type: "file_citation", file_id: ids[0] ?? "", text: `see ${ids[0]}` }],
    },
    {
      events: [{ text: "a" }],
      error: { code: "server_error", message: `no ${ids[0]} in vs_mock_1, resp_mock_1` },
    },
  );
  await ask("run it", { on_disconnect: "continue" });
  const failed = await ask("break it");
  await (await mutate(app, "retry", { chatId, requestId: failed })).rest().then((events) => {
    told.push(JSON.stringify(events));
  });
  await listened("GET", `/chats/${chatId}/messages`);
  await listened("GET", `/chats/${chatId}/turns/${cited}`);
  await listened("GET", `/chats/${chatId}/turns/${failed}`);
  await listened("GET", `/chats/${chatId}/export?format=json`);
  await listened("GET", `/chats/${chatId}/export?format=markdown`);
  await listened("GET", `/search?q=items`);
  await listened("GET", `/chats/${chatId}/attachments/${document}`);
  await listened("DELETE", `/chats/${chatId}/attachments/${document}`);
  await listened("DELETE", `/chats/${chatId}/attachments/${loose}`);
  await listened("POST", `/chats/${chatId}/messages:stream`, { content: "x", attachment_ids: [loose] });
  await listened("GET", `/models`);
  for (const text of told) expect(text).not.toMatch(providerIds);

  const { rows } = await app.db.query<{ payload: string }>(
    "select payload from outbox_message where kind in ('usage', 'audit')",
  );
  expect(rows.length).toBeGreaterThan(5);
  for (const { payload } of rows) expect(payload).not.toMatch(providerIds);
  const lines = app.logs.filter(({ level }) => level !== "debug" && level !== "trace");
  expect(lines.length).toBeGreaterThan(20);
  // Ids of requests and responses are for the log (providers.md §8.5), those of files are not.
  const leaks = lines.map((line) => JSON.stringify(line)).filter((line) => /file-mock|vs_mock/.test(line));
  expect(leaks).toEqual([]);
  const stored = await app.db.query<{ text: string }>(
    `select concat(content, citations, features_used) as text from messages
     union all select data::text from turn_events`,
  );
  for (const { text } of stored.rows) expect(text).not.toMatch(providerIds);
});
