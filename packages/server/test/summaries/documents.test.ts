import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newGate } from "../attachments/support.ts";
import { eventually, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import {
  askAbout,
  lastRequest,
  type ModelCall,
  modelCalls,
  providerIdOf,
  startFilesApp,
  uploaded,
} from "../turns/files-support.ts";
import { samples } from "../turns/support.ts";

const config = {
  role: "all",
  doc_summary: { enabled: true },
  plugins: { usage: { type: "postgres" } },
};

interface Row {
  readonly text: string | null;
  readonly model: string | null;
  readonly status: string;
}

const rowOf = async (app: TestApp, id: string): Promise<Row | undefined> =>
  (
    await app.db.query<Row>(
      "select doc_summary as text, summary_model as model, status from attachments where id = $1",
      [id],
    )
  ).rows[0];

const summarized = (app: TestApp, id: string): Promise<void> =>
  eventually(async () => (await rowOf(app, id))?.text !== null);

/** Document tasks neither acknowledged nor dead. */
const waiting = async (app: TestApp): Promise<number> =>
  (await app.db.query("select from outbox_message where kind = 'doc_summary'")).rowCount;

const settled = (app: TestApp): Promise<void> => eventually(async () => (await waiting(app)) === 0);

const callsFor = (app: TestApp): ModelCall[] =>
  modelCalls(app).filter(({ metadata }) => metadata["request_type"] === "doc_summary");

const usageEvents = async (app: TestApp, chatId: string): Promise<Record<string, unknown>[]> =>
  (
    await app.db.query<{ event: Record<string, unknown> }>(
      "select event from usage_events where chat_id = $1 and billing_outcome = 'system_task'",
      [chatId],
    )
  ).rows.map(({ event }) => event);

describe("document summaries (attachments.md §15)", () => {
  let app: TestApp;
  let chatId: string;
  beforeAll(async () => {
    app = await startFilesApp({ config });
  });
  afterAll(() => app.close());
  beforeEach(async () => {
    chatId = await app.createChat();
    app.simulator.clearRequests();
  });
  afterEach(() => {
    app.simulator.clearScenarios();
  });

  test("are made of the file by the cheapest model of its storage, and shown with it", async () => {
    app.simulator.enqueue({
      events: [{ text: "A plan\nof two items, see vs_mock_7 and vs_mock_8." }],
      usage: { input_tokens: 40, output_tokens: 9 },
    });
    const id = await uploaded(app, chatId, "document");
    await summarized(app, id);
    const text = "A plan of two items, see [provider_id] and [provider_id].";
    expect(await rowOf(app, id)).toEqual({ text, model: "seeing", status: "ready" });
    const [call, ...more] = callsFor(app);
    expect(more).toEqual([]);
    expect(call).toMatchObject({
      model: "provider-seeing",
      input: [
        {
          role: "user",
          content: [{ type: "input_file", file_id: await providerIdOf(app, id) }, { type: "input_text" }],
        },
      ],
      metadata: { request_type: "doc_summary", feature: "none" },
    });
    const { body } = await app.call("GET", `/chats/${chatId}/attachments/${id}`);
    expect(body).toMatchObject({ doc_summary: text, summary_updated_at: expect.any(String) });
    await eventually(async () => (await usageEvents(app, chatId)).length > 0);
    expect(await usageEvents(app, chatId)).toEqual([
      expect.objectContaining({
        system_task_type: "doc_summary_generation",
        billing_outcome: "system_task",
        settlement_method: "none",
        actual_credits_micro: 0,
        usage: expect.objectContaining({ input_tokens: 40, output_tokens: 9 }),
      }),
    ]);
    const { rowCount } = await app.db.query("select from chat_turns where chat_id = $1", [chatId]);
    expect(rowCount).toBe(0);
  });

  test("stand in the context of later turns, one line each, newest first", async () => {
    app.simulator.enqueue({ events: [{ text: "About the\nfirst." }] });
    const first = await uploaded(app, chatId, "document", { filename: "one.txt" });
    await summarized(app, first);
    app.simulator.enqueue({ events: [{ text: "About the second." }] });
    const second = await uploaded(app, chatId, "document", { filename: "two.txt" });
    await summarized(app, second);
    await askAbout(app, chatId, "PING");
    expect(lastRequest(app).instructions.split("\n").slice(-2)).toEqual([
      'Uploaded document "two.txt": About the second.',
      'Uploaded document "one.txt": About the first.',
    ]);
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${second}`)).status).toBe(204);
    await askAbout(app, chatId, "PING");
    expect(lastRequest(app).instructions).not.toContain("second");
  });

  test("are made neither of images nor of spreadsheets", async () => {
    await uploaded(app, chatId, "image");
    await uploaded(app, chatId, "sheet");
    expect(await waiting(app)).toBe(0);
  });

  test("have at most 150 words", async () => {
    app.simulator.enqueue({ events: [{ text: "word ".repeat(151) }] });
    const id = await uploaded(app, chatId, "document");
    await summarized(app, id);
    expect((await rowOf(app, id))?.text).toBe(`${"word ".repeat(150).trim()}…`);
  });

  test("of a document that is deleted meanwhile are thrown away, unpaid", async () => {
    const gate = newGate();
    app.simulator.enqueue({ gate, events: [{ text: "Too late." }] });
    const id = await uploaded(app, chatId, "document");
    await app.simulator.arrived(gate);
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${id}`)).status).toBe(204);
    app.simulator.open(gate);
    await settled(app);
    expect((await rowOf(app, id))?.text).toBeNull();
    expect(await usageEvents(app, chatId)).toEqual([]);
  });

  test("that cannot be made leave the document ready, after three attempts", async () => {
    const down = { http_status: 400, http_body: { error: { message: "no" } } };
    app.simulator.enqueue(down);
    app.simulator.enqueue(down);
    app.simulator.enqueue({ events: [{ text: "  " }] });
    const id = await uploaded(app, chatId, "document");
    await settled(app);
    expect(callsFor(app)).toHaveLength(3);
    expect(await rowOf(app, id)).toEqual({ text: null, model: null, status: "ready" });
    const { rows } = await app.db.query(
      "select status from outbox_dead where payload::jsonb ->> 'attachment_id' = $1",
      [id],
    );
    expect(rows).toEqual([{ status: "pending" }]);
    const { events } = await askAbout(app, chatId, "How many items are due?");
    expect(events.at(-1)?.event).toBe("done");
  });

  test("are not made twice of one document, however often it is delivered", async () => {
    const id = await uploaded(app, chatId, "document");
    await summarized(app, id);
    const calls = callsFor(app).length;
    const { rows } = await app.db.query<{ partition_id: number }>(
      "select id as partition_id from outbox_partition where queue = 'mini-chat.doc_summary' limit 1",
    );
    const payload = JSON.stringify({
      tenant_id: callers.ann.tenantId,
      chat_id: chatId,
      attachment_id: id,
      system_request_id: crypto.randomUUID(),
      system_task_type: "doc_summary_generation",
    });
    await app.db.query(
      `insert into outbox_message (partition_id, message_id, tenant_id, order_key, kind, payload)
       values ($1, gen_random_uuid(), $2, $3, 'doc_summary', $4)`,
      [rows[0]?.partition_id, callers.ann.tenantId, chatId, payload],
    );
    await settled(app);
    expect(callsFor(app)).toHaveLength(calls);
  });
});

test("a call that the open breaker keeps back is no attempt: the summary is made once it closes", async () => {
  const breaker = { failure_threshold: 1, open_secs: 1 };
  const app = await startFilesApp({
    config: {
      ...config,
      providers: { sim: { breaker } },
      outbox: { retry_base_ms: 1, retry_max_ms: 20 },
    },
  });
  try {
    const chatId = await app.createChat();
    app.simulator.enqueue({ http_status: 500, http_body: { error: { message: "no" } } });
    app.simulator.enqueue({ events: [{ text: "At last." }] });
    const id = await uploaded(app, chatId, "document");
    await settled(app);
    expect(await rowOf(app, id)).toMatchObject({ text: "At last." });
    expect(callsFor(app)).toHaveLength(2);
    const counted = await samples(app, "attachment_summary_total");
    expect([counted.get('result="failed"'), counted.get('result="ok"')]).toEqual([1, 1]);
  } finally {
    await app.close();
  }
});

test("a document in our own database is summarised from its beginning", async () => {
  const app = await startFilesApp({ config: { ...config, providers: { sim: { storage_kind: "local" } } } });
  try {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "A plan." }] });
    const id = await uploaded(app, chatId, "document", {
      text: `Two items are due.\n\n${"more ".repeat(9_000)}`,
    });
    await summarized(app, id);
    expect((await rowOf(app, id))?.text).toBe("A plan.");
    const text = callsFor(app)[0]?.input[0]?.content[0]?.text;
    expect(text).toMatch(/^<document>\nTwo items are due\./);
    expect(text?.length).toBeLessThan(12_100);
  } finally {
    await app.close();
  }
});

test("a model of another storage is not asked, a dearer one of the right storage is", async () => {
  const app = await startFilesApp({
    config: {
      ...config,
      plugins: {
        ...config.plugins,
        model_policy: {
          static: {
            model_catalog: [
              premiumEntry("premium", { preference: { is_default: true, sort_order: 0 } }),
              modelEntry("far", { provider_id: "other" }),
            ],
          },
        },
      },
    },
  });
  try {
    const id = await uploaded(app, await app.createChat(), "document");
    await summarized(app, id);
    expect((await rowOf(app, id))?.model).toBe("premium");
  } finally {
    await app.close();
  }
});
