import { randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { addDocument } from "../api/operations.ts";
import { startApiApp } from "../api/support.ts";
import { eventually } from "../support/app.ts";
import { callers } from "../support/config.ts";

const app = await startApiApp({ config: { role: "api", streaming: { slow_client_timeout_secs: 5 } } });
afterAll(() => app.close());

const { ann } = callers;
let chatId: string;
let path: string;
beforeEach(async () => {
  chatId = await app.createChat(ann, { title: "Release notes" });
  path = `/chats/${chatId}/export`;
});

const store = async (content: string, more: Readonly<Record<string, unknown>> = {}): Promise<string> => {
  const id = randomUUID();
  const values = {
    id,
    tenant_id: ann.tenantId,
    chat_id: chatId,
    request_id: randomUUID(),
    role: "user",
    content,
    ...more,
  };
  const names = Object.keys(values);
  await app.db.query(
    `insert into messages (${names.join(", ")}) values (${names.map((_, at) => `$${at + 1}`).join(", ")})`,
    Object.values(values),
  );
  return id;
};

/** So many messages of this size, a microsecond apart. */
const storeMany = (count: number, bytes: number): Promise<unknown> =>
  app.db.query(
    `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
     select gen_random_uuid(), $1, $2, gen_random_uuid(), 'user', 'no. ' || no || ' ' || repeat('x', $4),
       '2026-03-01T00:00:00Z'::timestamptz + no * interval '1 microsecond'
     from generate_series(1, $3::int) as no`,
    [ann.tenantId, chatId, count, bytes],
  );

const json = () => app.call("GET", `${path}?format=json`);
const markdown = () => app.call("GET", path);

describe("GET /chats/{id}/export", () => {
  test("as JSON holds the chat and its messages as the API shows them", async () => {
    await app.ask(chatId, "PING");
    const messages = await app.call("GET", `/chats/${chatId}/messages`);
    const chat = await app.call("GET", `/chats/${chatId}`);
    const { status, headers, body } = await json();
    expect(status).toBe(200);
    expect(headers.get("content-type")).toBe("application/json; charset=utf-8");
    expect(headers.get("content-disposition")).toBe(
      `attachment; filename="Release-notes.json"; filename*=UTF-8''Release%20notes.json`,
    );
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(body).toEqual({ chat: chat.body, exported_at: expect.any(String), messages: messages.body.items });
  });

  test("as Markdown holds the texts in order", async () => {
    await app.ask(chatId, "# PING");
    const { status, headers, body } = await markdown();
    expect([status, headers.get("content-type")]).toEqual([200, "text/markdown; charset=utf-8"]);
    expect(headers.get("content-disposition")).toContain('filename="Release-notes.md"');
    expect(body).toMatch(
      /^# Release notes\n[^>]*\n## User, \S+Z\n\n> # PING\n\n## Assistant \(standard\), \S+Z\n\n> Hello from the simulator\.\n$/,
    );
  });

  test("an empty chat is a document, too", async () => {
    expect((await json()).body.messages).toEqual([]);
    expect((await markdown()).body).toMatch(/^# Release notes\n/);
  });

  test("leaves out what is not listed", async () => {
    await store("shown");
    await store("deleted", { deleted_at: new Date().toISOString() });
    await store("of no turn", { request_id: null });
    expect((await json()).body.messages.map(({ content }: { content: string }) => content)).toEqual([
      "shown",
    ]);
  });

  test("lists attachments by name, and sources that still exist, without what a provider calls them", async () => {
    const [kept, gone] = [await addDocument(app, ann, chatId), await addDocument(app, ann, chatId)];
    const citations = [
      { source: "file", title: "plan.txt", attachment_id: kept, snippet: "Two items" },
      { source: "file", title: "gone.txt", attachment_id: gone, snippet: "" },
      { source: "web", title: "Site", url: "https://example.com/", snippet: "", span: { start: 0, end: 1 } },
    ];
    const id = await store("See both.", {
      role: "assistant",
      citations: JSON.stringify(citations),
      provider_response_id: "resp_secret",
    });
    for (const [position, one] of [kept, gone].entries()) {
      await app.db.query(
        "insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position) values ($1, $2, $3, $4, $5)",
        [ann.tenantId, chatId, id, one, position],
      );
    }
    await app.db.query("update attachments set deleted_at = now() where id = $1", [gone]);
    const { body } = await json();
    expect(body.messages[0]).toMatchObject({
      attachments: [{ attachment_id: kept, kind: "document", filename: "plan.txt", status: "ready" }],
      citations: [citations[0], citations[2]],
    });
    const text = (await markdown()).body;
    expect(text).toContain("- plan\\.txt (document)\n");
    expect(text).toContain(`Sources: [^${id.slice(0, 13)}-1] [^${id.slice(0, 13)}-2]\n`);
    for (const secret of ["resp_secret", "file-", "gone"]) {
      expect(JSON.stringify(body) + text).not.toContain(secret);
    }
  });

  test("holds every message of many pages once, in order", async () => {
    await storeMany(251, 10);
    const { body } = await json();
    const numbers = body.messages.map(({ content }: { content: string }) => Number(content.split(" ")[1]));
    expect(numbers).toEqual(Array.from({ length: 251 }, (_, at) => at + 1));
  });

  test("holds what was there when it began: later messages are not in it", async () => {
    await storeMany(120, 10);
    const query = app.db.query.bind(app.db);
    let stored = false;
    const spy = vi.spyOn(app.db, "query").mockImplementation(async (statement, values) => {
      const result = await query(statement, values);
      if (typeof statement !== "string" && statement.name === "message_page_of_walk" && !stored) {
        stored = true;
        await store("later");
      }
      return result as never;
    });
    const { body } = await json();
    spy.mockRestore();
    expect(stored).toBe(true);
    expect(body.messages).toHaveLength(120);
    expect((await json()).body.messages).toHaveLength(121);
  });

  test.each(["xml", "JSON", "markdown,json"])("refuses the format %s", async (format) => {
    const { status, body } = await app.call("GET", `${path}?format=${format}`);
    expect([status, body.code]).toEqual([400, "invalid_request"]);
  });

  test("a database that fails at first is a refusal; one that fails later breaks the download off", async () => {
    await storeMany(400, 4_000);
    const query = app.db.query.bind(app.db);
    const failAt = async (page: number) => {
      let pages = 0;
      const spy = vi.spyOn(app.db, "query").mockImplementation(async (statement, values) => {
        if (typeof statement !== "string" && statement.name === "message_page_of_walk") {
          pages += 1;
          if (pages === page) throw new Error("away");
        }
        return (await query(statement, values)) as never;
      });
      try {
        return await json();
      } finally {
        spy.mockRestore();
      }
    };
    expect(await failAt(1)).toMatchObject({ status: 500, body: { code: "internal_error" } });
    await expect(failAt(4)).rejects.toThrow();
  });

  test.each<[string, (socket: Socket) => unknown]>([
    ["leaves", (socket) => socket.destroy()],
    ["takes nothing for slow_client_timeout_secs", () => {}],
  ])(
    "a client that does not read makes the database wait; when it %s, the export ends",
    async (_name, end) => {
      await storeMany(2_000, 20_000);
      let pages = 0;
      const query = app.db.query.bind(app.db);
      const spy = vi.spyOn(app.db, "query").mockImplementation(async (statement, values) => {
        if (typeof statement !== "string" && statement.name === "message_page_of_walk") pages += 1;
        return (await query(statement, values)) as never;
      });
      try {
        const { port, pathname } = new URL(app.base);
        const socket = connect(Number(port), "127.0.0.1");
        socket.pause();
        socket.write(
          `GET ${pathname}${path}?format=json HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${ann.token}\r\n\r\n`,
        );
        // 40 MB do not fit into the buffers of a connection: the pages stop long before the last of 40.
        let [last, polls] = [0, 0];
        await eventually(() => {
          polls = pages > 0 && pages === last ? polls + 1 : 0;
          last = pages;
          return polls === 40;
        });
        expect(pages).toBeLessThan(30);
        const ended = () =>
          app.logs.filter((line) => line.msg === "request" && String(line.route).endsWith("/export")).length;
        const before = ended();
        end(socket);
        await eventually(() => ended() > before);
        expect(pages).toBeLessThan(30);
        socket.destroy();
      } finally {
        spy.mockRestore();
      }
    },
  );
});
