import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { calm, newGate } from "../attachments/support.ts";
import type { TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import { textOf } from "../support/stream.ts";
import {
  askAbout,
  citationsIn,
  lastRequest,
  providerIdOf,
  startFilesApp,
  toolsOf,
  uploaded,
} from "./files-support.ts";
import { ended, eventsOf, samples } from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startFilesApp({ config: { context: { file_search_guard: "GUARD OF FILES" } } });
});
afterAll(() => app.close());
beforeEach(async () => {
  chatId = await app.createChat();
});
afterEach(() => {
  app.simulator.clearScenarios();
  calm(app);
});

const question = "How many items are due?";
const remove = (id: string) => app.call("DELETE", `/chats/${chatId}/attachments/${id}`);
const surcharge = 500;

/** What each tool of the last model call is limited to. */
const filtersSent = (): unknown[] => lastRequest(app).tools.map(({ filters }) => filters);

describe("documents are searched (context.md §8)", () => {
  test("and cited by the ids of the API, on every later turn, named or not", async () => {
    const id = await uploaded(app, chatId, "document");
    const { requestId, events } = await askAbout(app, chatId, question);
    const tool = (phase: string, details: object) => ({
      event: "tool",
      data: { phase, name: "file_search", details },
    });
    expect(events.slice(1, 3)).toEqual([tool("start", {}), tool("done", { files_searched: 1 })]);
    expect(textOf(events)).toBe('Your document says: "Two items are due."');
    const citation = {
      source: "file",
      attachment_id: id,
      title: "plan.txt",
      snippet: "Two items are due.",
    };
    expect(citationsIn(events)).toEqual([citation]);
    expect(lastRequest(app)).toMatchObject({
      tools: [{ type: "file_search", vector_store_ids: [expect.any(String)], max_num_results: 5 }],
      metadata: { feature: "file_search" },
      instructions: expect.stringContaining("GUARD OF FILES"),
    });
    const named = await askAbout(app, chatId, question, { body: { attachment_ids: [id] } });
    expect(citationsIn(named.events)).toEqual([citation]);
    const { rows } = await app.db.query(
      `select features_used as features, citations from messages
       where request_id = $1 and role = 'assistant'`,
      [requestId],
    );
    expect(rows).toEqual([{ features: ["file_search"], citations: [citation] }]);
    expect((await eventsOf(app, requestId)).usage).toMatchObject({ file_search_calls: 1 });
  });

  test("costing their surcharge once, in the reserve", async () => {
    const plain = await askAbout(app, await app.createChat(), question);
    await uploaded(app, chatId, "document");
    const searched = await askAbout(app, chatId, question);
    const tokens = async (requestId: string): Promise<bigint> =>
      (
        await app.db.query<{ tokens: bigint }>(
          "select reserve_tokens as tokens from chat_turns where request_id = $1",
          [requestId],
        )
      ).rows[0]?.tokens ?? 0n;
    expect((await tokens(searched.requestId)) - (await tokens(plain.requestId))).toBe(BigInt(surcharge));
  });

  test("in the chat's own store alone", async () => {
    const other = await app.createChat(callers.amy);
    await uploaded(app, other, "document", { caller: callers.amy, text: "Ninety items are due." });
    await uploaded(app, chatId, "document");
    const { events } = await askAbout(app, chatId, question);
    expect(textOf(events)).toContain("Two items");
    expect(lastRequest(app).tools[0]?.vector_store_ids).toHaveLength(1);
  });

  test.each([
    ["not before it is ready", "update attachments set status = 'uploaded' where chat_id = $1"],
    ["not without a store", "delete from chat_vector_stores where chat_id = $1"],
    [
      "not where its store is only being made",
      "update chat_vector_stores set vector_store_id = null where chat_id = $1",
    ],
    [
      "not in the storage of another provider",
      "update attachments set storage_backend = 'other' where chat_id = $1",
    ],
    [
      "not in a store of another provider",
      "update chat_vector_stores set provider = 'other' where chat_id = $1",
    ],
  ])("%s", async (_what, change) => {
    await uploaded(app, chatId, "document");
    await app.db.query(change, [chatId]);
    const { events } = await askAbout(app, chatId, question);
    expect(textOf(events)).toBe("Hello from the simulator.");
    expect(toolsOf(app)).toEqual([]);
    expect(JSON.stringify(lastRequest(app))).not.toContain("GUARD OF FILES");
  });

  test("without those whose cleanup is not done, until it is", async () => {
    const kept = await uploaded(app, chatId, "document");
    const gone = await uploaded(app, chatId, "document", { text: "Ninety secret items are due." });
    await askAbout(app, chatId, question);
    expect(filtersSent()).toEqual([undefined]);
    expect((await remove(gone)).status).toBe(204);
    const { events } = await askAbout(app, chatId, "How many secret items are due?");
    expect(textOf(events)).not.toContain("Ninety");
    expect(filtersSent()).toEqual([{ type: "eq", key: "attachment_id", value: kept }]);
    const more = await uploaded(app, chatId, "document");
    await askAbout(app, chatId, question);
    const filters = [more, kept].map((value) => ({ type: "eq", key: "attachment_id", value }));
    expect(filtersSent()).toEqual([{ type: "or", filters }]);
    await app.db.query("update attachments set cleanup_status = 'done' where id = $1", [gone]);
    await askAbout(app, chatId, question);
    expect(filtersSent()).toEqual([undefined]);
  });

  test("never after the last one is deleted (§12.8)", async () => {
    const id = await uploaded(app, chatId, "document");
    expect((await remove(id)).status).toBe(204);
    const { events } = await askAbout(app, chatId, question);
    expect([textOf(events), toolsOf(app)]).toEqual(["Hello from the simulator.", []]);
  });
});

describe("tools with files are left out, and the turn goes on (policy.md §5)", () => {
  const noTools = { web_search: true, file_search: false, code_interpreter: false };
  const general = modelEntry("x")["general_config"] as Tree;
  test.each<[string, Tree]>([
    [
      "by their kill switches",
      { kill_switches: { disable_file_search: true, disable_code_interpreter: true } },
    ],
    [
      "when the model does not support them",
      {
        model_catalog: [
          modelEntry("seeing", {
            preference: { is_default: true, sort_order: 0 },
            general_config: {
              ...general,
              tool_support: { ...(general["tool_support"] as Tree), ...noTools },
            },
          }),
        ],
      },
    ],
  ])("%s", async (_what, policy) => {
    await uploaded(app, chatId, "document");
    await uploaded(app, chatId, "sheet");
    const other = await startFilesApp({
      config: { plugins: { model_policy: { static: policy } } },
      database: app.database,
      simulator: app.simulator,
    });
    try {
      const { events } = await askAbout(other, chatId, question);
      expect([textOf(events), toolsOf(other)]).toEqual(["Hello from the simulator.", []]);
      expect(lastRequest(other).metadata.feature).toBe("none");
    } finally {
      await other.close();
    }
  });
});

describe("what is cited (context.md §8.1)", () => {
  /** An answer that cites these provider ids once `meanwhile` is done. */
  const citing = async (fileIds: readonly string[], meanwhile: () => Promise<unknown>) => {
    const gate = newGate();
    app.simulator.enqueue({
      events: [{ text: "as said" }, { wait_for: gate }],
      citations: fileIds.map((file_id) => ({ type: "file_citation", file_id, text: `of ${file_id}` })),
    });
    const stream = await app.send(chatId, { content: question });
    await stream.until("delta");
    await meanwhile();
    app.simulator.open(gate);
    return stream.rest();
  };

  test("is nothing that was deleted since the context was assembled", async () => {
    const [gone, kept] = [await uploaded(app, chatId, "document"), await uploaded(app, chatId, "document")];
    const ids = [await providerIdOf(app, gone), await providerIdOf(app, kept)];
    const before = (await samples(app, "citations_dropped_total")).get('reason="deleted"') ?? 0;
    const events = await citing(ids, async () => {
      expect((await remove(gone)).status).toBe(204);
    });
    expect(citationsIn(events)).toMatchObject([{ attachment_id: kept, snippet: "of " }]);
    expect((await samples(app, "citations_dropped_total")).get('reason="deleted"')).toBe(before + 1);
  });

  test("is no file of another chat, nor one nobody knows", async () => {
    const other = await app.createChat();
    const foreign = await uploaded(app, other, "document");
    await uploaded(app, chatId, "document");
    const events = await citing([await providerIdOf(app, foreign), "file-nobody"], async () => {});
    expect(citationsIn(events)).toEqual([]);
    expect(events.at(-1)?.event).toBe("done");
  });

  test("is no file when nobody can tell whether it still exists", async () => {
    const id = await uploaded(app, chatId, "document");
    const events = await citing([await providerIdOf(app, id)], async () => {
      const query = app.app.db.query.bind(app.app.db);
      app.app.db.query = (statement, values) =>
        typeof statement !== "string" && statement.name === "attachments_live"
          ? Promise.reject(new Error("away"))
          : query(statement, values);
    }).finally(() => {
      Reflect.deleteProperty(app.app.db, "query");
    });
    expect(events.map(({ event }) => event)).toEqual(["done"]);
  });

  test("is told again by a replay and by the log, without what was deleted meanwhile", async () => {
    const id = await uploaded(app, chatId, "document");
    const body = { on_disconnect: "continue" };
    const { requestId, events } = await askAbout(app, chatId, question, { body });
    expect(citationsIn(events)).toMatchObject([{ attachment_id: id }]);
    const replayed = () =>
      app.send(chatId, { content: question, request_id: requestId }).then((stream) => stream.rest());
    const logged = () =>
      app.call("GET", `/chats/${chatId}/turns/${requestId}/stream`).then(({ body: text }) => text);
    expect(citationsIn(await replayed())).toEqual(citationsIn(events));
    expect(await logged()).toContain(id);
    expect((await remove(id)).status).toBe(204);
    expect(citationsIn(await replayed())).toEqual([]);
    const told = await logged();
    expect(told).not.toContain(id);
    expect(told).toContain("event: done");
  });
});

describe("web search beside documents (context.md §9)", () => {
  test("comes behind file search, and both tools cite", async () => {
    const id = await uploaded(app, chatId, "document");
    app.simulator.enqueue({
      events: [
        { tool: "web_search", phase: "start" },
        { tool: "web_search", phase: "done" },
        { tool: "file_search", phase: "start" },
        { tool: "file_search", phase: "done", results: [{ file_id: "{{found:1}}" }] },
        { text: "both" },
      ],
      citations: [
        { type: "url_citation", url: "https://example.com/a", title: "A", start_index: 0, end_index: 4 },
        { type: "file_citation", file_id: "{{found:1}}", text: "Two" },
      ],
    });
    const { requestId, events } = await askAbout(app, chatId, question, {
      body: { web_search: { enabled: true } },
    });
    expect(toolsOf(app)).toEqual(["file_search", "web_search"]);
    expect(lastRequest(app).metadata.feature).toBe("file_search+web_search");
    expect(citationsIn(events)).toMatchObject([
      { source: "web", url: "https://example.com/a" },
      { source: "file", attachment_id: id },
    ]);
    expect((await ended(app, requestId)).webSearches).toBe(1);
  });
});
