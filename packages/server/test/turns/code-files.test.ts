import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { calm } from "../attachments/support.ts";
import { eventually, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import { askAbout, lastRequest, providerIdOf, startFilesApp, toolsOf, uploaded } from "./files-support.ts";
import { eventsOf, everything, turnRow } from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startFilesApp();
});
afterAll(() => app.close());
beforeEach(async () => {
  chatId = await app.createChat();
});
afterEach(() => {
  app.simulator.clearScenarios();
  calm(app);
});

const containerOf = (): string[] =>
  lastRequest(app).tools.flatMap(({ container }) => container?.file_ids ?? []);

const callsToday = (caller: Caller, calls: number) =>
  app.db.query(
    `update quota_usage set code_interpreter_calls = $2
     where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
    [caller.userId, calls],
  );

/** Spreadsheets as uploads would have left them, oldest first; their provider ids. */
const sheets = async (count: number): Promise<string[]> => {
  const ids = Array.from({ length: count }, (_, at) => `file-sheet-${chatId}-${at}`);
  for (const [at, providerId] of ids.entries()) {
    await app.db.query(
      `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
         storage_backend, provider_id, provider_file_id, status, attachment_kind, for_code_interpreter, created_at)
       values ($1, $2, $3, $4, 's.xlsx', 'x', 1, 'sim', 'sim', $5, 'ready', 'document', true,
         now() + $6 * interval '1 second')`,
      [randomUUID(), callers.ann.tenantId, chatId, callers.ann.userId, providerId, at],
    );
  }
  return ids;
};

describe("spreadsheets (context.md §10)", () => {
  test("go into the container of every later turn, unasked, and what code prints is told", async () => {
    const id = await uploaded(app, chatId, "sheet");
    const providerId = await providerIdOf(app, id);
    app.simulator.enqueue({
      events: [
        { tool: "code_interpreter", phase: "start" },
        {
          tool: "code_interpreter",
          phase: "done",
          outputs: [{ type: "logs", logs: `read /mnt/data/${providerId}.xlsx` }],
        },
        { text: "The sum is 3." },
      ],
    });
    const { requestId, events } = await askAbout(app, chatId, "sum it up");
    expect(lastRequest(app)).toMatchObject({
      tools: [{ type: "code_interpreter", container: { type: "auto", file_ids: [providerId] } }],
      metadata: { feature: "code_interpreter" },
      max_tool_calls: 2,
    });
    expect(events.slice(1, 3).map(({ data }) => data["details"])).toEqual([
      {},
      { output: "read /mnt/data/sums.xlsx.xlsx" },
    ]);
    expect((await eventsOf(app, requestId)).usage).toMatchObject({ code_interpreter_calls: 1 });
    await askAbout(app, chatId, "and again");
    expect(containerOf()).toEqual([providerId]);
  });

  test("are at most the newest 20, oldest first", async () => {
    const ids = await sheets(22);
    await askAbout(app, chatId, "sum them up");
    expect(containerOf()).toEqual(ids.slice(2));
  });

  test("are not offered when deleted, nor from another storage", async () => {
    const id = await uploaded(app, chatId, "sheet");
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${id}`)).status).toBe(204);
    await uploaded(app, chatId, "sheet");
    await app.db.query("update attachments set storage_backend = 'other' where chat_id = $1", [chatId]);
    await askAbout(app, chatId, "sum it up");
    expect(toolsOf(app)).toEqual([]);
  });

  test("beside documents: file search first", async () => {
    await uploaded(app, chatId, "sheet");
    await uploaded(app, chatId, "document");
    await askAbout(app, chatId, "anything");
    expect(toolsOf(app)).toEqual(["file_search", "code_interpreter"]);
    expect(lastRequest(app).metadata.feature).toBe("file_search+code_interpreter");
  });
});

describe("row 13: the day's calls of the code interpreter (quota.md §8)", () => {
  test("used up they refuse a message that would carry the tool, and no other", async () => {
    await askAbout(app, chatId, "hi");
    await callsToday(callers.ann, 50);
    await askAbout(app, chatId, "hi");
    await uploaded(app, chatId, "sheet");
    const before = await everything(app);
    const stream = await app.send(chatId, { content: "sum it up" });
    expect(await stream.problem()).toMatchObject({
      status: 429,
      code: "quota_exceeded",
      quota_scope: "code_interpreter",
    });
    expect(await everything(app)).toEqual(before);
    await callsToday(callers.ann, 49);
    const { events } = await askAbout(app, chatId, "sum it up");
    expect(events.at(-1)?.event).toBe("done");
    await callsToday(callers.ann, 0);
  });

  test("are counted as they happen, and end the turn beyond ten a message", async () => {
    await uploaded(app, chatId, "sheet");
    const call = [
      { tool: "code_interpreter", phase: "start" },
      { tool: "code_interpreter", phase: "done", outputs: [] },
    ] as const;
    app.simulator.enqueue({ events: Array.from({ length: 11 }, () => call).flat() });
    const { requestId, events } = await askAbout(app, chatId, "loop");
    expect(events.at(-1)?.data["code"]).toBe("code_interpreter_calls_exceeded");
    expect(events.filter(({ event }) => event === "tool")).toHaveLength(20);
    await eventually(async () => (await turnRow(app, requestId)).state === "failed");
    expect((await eventsOf(app, requestId)).usage).toMatchObject({
      code_interpreter_calls: 10,
      settlement_method: "estimated",
    });
  });
});
