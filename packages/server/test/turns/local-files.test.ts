import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { newGate, upload } from "../attachments/support.ts";
import { xlsx } from "../retrieval/documents.ts";
import { eventually, type TestApp } from "../support/app.ts";
import { modelEntry } from "../support/config.ts";
import { textOf } from "../support/stream.ts";
import {
  askAbout,
  citationsIn,
  lastRequest,
  png,
  startFilesApp,
  toolsOf,
  uploaded,
} from "./files-support.ts";
import { attach, ended, eventsOf, samples, someoneWaits, total, whileLocked } from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startFilesApp({
    config: {
      context: { file_search_guard: "GUARD OF FILES", untrusted_content_guard: "GUARD OF DATA" },
      providers: { sim: { storage_kind: "local" } },
    },
  });
});
afterAll(() => app.close());
beforeEach(async () => {
  chatId = await app.createChat();
});
afterEach(() => {
  app.simulator.clearScenarios();
});

const lease = "The lease ends in March 2031.\n\nThe deposit is two thousand euros.";
const question = "When does the lease end?";

/** The messages the provider got, as text. */
const messagesSent = (): string[] =>
  lastRequest(app).input.map(({ content }) => content.map((part) => part.text ?? "").join(""));

describe("documents of a provider without storage (docs/retrieval.md)", () => {
  test("are searched by us: a tool call that starts and ends, then an answer that cites them", async () => {
    const id = await uploaded(app, chatId, "document", { text: lease, filename: "lease.txt" });
    app.simulator.enqueue({
      events: [{ text: "In March 2031 [cite:1]" }, { text: ", see there [cite:9]." }],
    });
    const { requestId, events } = await askAbout(app, chatId, question);
    expect(events.map(({ event }) => event)).toEqual([
      "stream_started",
      "tool",
      "tool",
      "delta",
      "delta",
      "citations",
      "done",
    ]);
    expect(events.slice(1, 3).map(({ data }) => data)).toEqual([
      { phase: "start", name: "file_search", details: {} },
      { phase: "done", name: "file_search", details: { files_searched: 1 } },
    ]);
    expect(citationsIn(events)).toEqual([
      {
        source: "file",
        attachment_id: id,
        title: "lease.txt",
        snippet: expect.stringContaining("March 2031"),
        span: { start: 14, end: 22 },
        position: expect.stringMatching(/^lines? /),
      },
    ]);
    const sent = messagesSent();
    expect(sent.at(-1)).toBe(question);
    expect(sent.at(-2)).toContain("> The lease ends in March 2031.");
    expect(lastRequest(app).instructions).toContain("GUARD OF DATA");
    expect(lastRequest(app).instructions).not.toContain("GUARD OF FILES");
    expect(toolsOf(app)).toEqual([]);
    expect(lastRequest(app).metadata.feature).toBe("none");
    expect((await eventsOf(app, requestId)).usage).toMatchObject({ file_search_calls: 1 });
    expect((await samples(app, "citations_dropped_total")).get('reason="unknown"')).toBe(1);
    const replayed = await app.send(chatId, { content: question, request_id: requestId });
    expect(citationsIn(await replayed.rest())).toEqual(citationsIn(events));
  });

  test("are quoted to the model, which answers from them", async () => {
    const id = await uploaded(app, chatId, "document", { text: lease });
    const { events } = await askAbout(app, chatId, "How much is the deposit?");
    expect(textOf(events)).toBe('Your document says: "The deposit is two thousand euros." [cite:1]');
    expect(citationsIn(events)).toMatchObject([{ attachment_id: id }]);
  });

  test("leave no markers of old answers in the context of the next", async () => {
    await uploaded(app, chatId, "document", { text: lease });
    app.simulator.enqueue({ events: [{ text: "In March [cite:1]." }] });
    await askAbout(app, chatId, question);
    await askAbout(app, chatId, "And how much is the deposit?");
    const sent = messagesSent();
    expect(sent).toContain("In March.");
    expect(sent.at(-2)).toContain("deposit is two thousand");
  });

  test("are not searched nor cited after their deletion", async () => {
    const id = await uploaded(app, chatId, "document", { text: lease });
    const other = await uploaded(app, chatId, "document", { text: "Bring cake on Sunday." });
    const gate = newGate();
    app.simulator.enqueue({ events: [{ text: "In March [cite:1]" }, { wait_for: gate }] });
    const stream = await app.send(chatId, { content: question });
    await stream.until("delta");
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${id}`)).status).toBe(204);
    app.simulator.open(gate);
    expect((await stream.rest()).map(({ event }) => event)).toEqual(["done"]);
    await askAbout(app, chatId, question);
    expect(messagesSent().join()).not.toContain("2031");
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${other}`)).status).toBe(204);
    const { events } = await askAbout(app, chatId, question);
    expect(events.filter(({ event }) => event === "tool")).toEqual([]);
  });

  test("of other chats are outside", async () => {
    await uploaded(app, await app.createChat(), "document", { text: lease });
    await uploaded(app, chatId, "document", { text: "Bring cake on Sunday." });
    await askAbout(app, chatId, question);
    expect(messagesSent().join()).not.toContain("2031");
  });

  test("cost their surcharge, and stay outside of a model that may not search", async () => {
    await uploaded(app, chatId, "document", { text: lease });
    await app.db.query("update attachments set status = 'uploaded' where chat_id = $1", [chatId]);
    const { events } = await askAbout(app, chatId, question);
    expect(events.filter(({ event }) => event === "tool")).toEqual([]);
    expect(messagesSent()).toEqual([question]);
  });

  test("whose search fails let the turn go on, with the same context before the question", async () => {
    await uploaded(app, chatId, "document", { text: lease });
    app.simulator.enqueue({ events: [{ text: "In March [cite:1]." }] });
    await askAbout(app, chatId, question);
    await app.database.db.query("alter table local_chunks rename to local_chunks_away");
    try {
      const { events } = await askAbout(app, chatId, question);
      expect(textOf(events)).toBe("Hello from the simulator.");
      expect(events[2]?.data["details"]).toEqual({ files_searched: 0 });
      expect(messagesSent()).toEqual([question, "In March.", question]);
    } finally {
      await app.database.db.query("alter table local_chunks_away rename to local_chunks");
    }
  });

  test("a turn that is cancelled during the search never asks the provider", async () => {
    await uploaded(app, chatId, "document", { text: lease });
    const calls = () => app.simulator.requests().filter(({ path }) => path.endsWith("/responses")).length;
    const before = calls();
    const lock = "lock table local_chunks in access exclusive mode";
    const requestId = crypto.randomUUID();
    await whileLocked(app, lock, async () => {
      const stream = await app.send(chatId, { content: question, request_id: requestId });
      await stream.until("tool");
      await someoneWaits(app);
      stream.disconnect();
      await eventually(async () => (await ended(app, requestId)).state === "cancelled");
    });
    expect(calls()).toBe(before);
    expect((await eventsOf(app, requestId)).usage).toMatchObject({ settlement_method: "released" });
  });
});

describe("images and spreadsheets that lie in our own database", () => {
  test("an image is refused by the upload, and by the message if it is there all the same", async () => {
    const { status, body } = await upload(app, chatId, {
      filename: "a.png",
      type: "image/png",
      bytes: await png(),
    });
    expect([status, body.code]).toEqual([415, "unsupported_media"]);
    const image = await attach(app, chatId);
    const stream = await app.send(chatId, { content: "see", attachment_ids: [image] });
    expect(await stream.problem()).toMatchObject({ status: 415, code: "unsupported_media" });
  });

  test("a spreadsheet is searched like any document, and is in no container", async () => {
    const { status, body } = await upload(app, chatId, {
      filename: "fees.xlsx",
      type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
      bytes: xlsx("Fees", [
        ["fees", "euros"],
        ["entry", 12],
      ]),
    });
    expect([status, body.status]).toEqual([201, "ready"]);
    await askAbout(app, chatId, "What are the fees?");
    expect(toolsOf(app)).toEqual([]);
    expect(messagesSent().at(-2)).toContain("fees.xlsx");
  });

  test("a question whose words are nowhere gets what the documents begin with", async () => {
    await uploaded(app, chatId, "document", { text: lease });
    await askAbout(app, chatId, "Worum geht es?");
    expect(messagesSent().at(-2)).toContain("> The lease ends in March 2031.");
  });

  test("each search is measured, one that finds nothing counted", async () => {
    const measured = async () => ({
      searches: await total(app, "retrieval_latency_ms_count"),
      answered: await total(app, "retrieval_chunks_returned_count"),
      chunks: await total(app, "retrieval_chunks_returned_sum"),
      empty: await total(app, "retrieval_zero_hit_total"),
    });
    const before = await measured();
    await uploaded(app, chatId, "document", { text: lease });
    await askAbout(app, chatId, question);
    const { searches, answered, chunks, empty } = await measured();
    expect([searches - before.searches, answered - before.answered]).toEqual([1, 1]);
    expect([chunks - before.chunks, empty - before.empty]).toEqual([1, 0]);
    await app.db.query("delete from local_chunks where chat_id = $1", [chatId]);
    await askAbout(app, chatId, question);
    expect(await measured()).toEqual({
      searches: searches + 1,
      answered: answered + 1,
      chunks,
      empty: empty + 1,
    });
    expect((await samples(app, "retrieval_latency_ms_count")).has('provider="sim"')).toBe(true);
  });
});

test("a model of another provider reads the storage its rag_provider names", async () => {
  const other = await startFilesApp({
    database: app.database,
    simulator: app.simulator,
    config: {
      providers: {
        sim: { storage_kind: "local" },
        other: { storage_kind: "none", rag_provider: "sim" },
      },
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("far", { provider_id: "other", preference: { is_default: true, sort_order: 0 } }),
            ],
          },
        },
      },
    },
  });
  try {
    const far = await other.createChat();
    await uploaded(other, far, "document", { text: lease });
    const { events } = await askAbout(other, far, question);
    expect(events[2]?.data["details"]).toEqual({ files_searched: 1 });
  } finally {
    await other.close();
  }
});
