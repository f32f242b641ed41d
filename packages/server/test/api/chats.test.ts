import { randomUUID } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import { addDocument } from "./operations.ts";
import { dataDigest, startApiApp } from "./support.ts";

// Events stay where they were enqueued: this process delivers nothing.
const enqueueOnly = { role: "api" };
const app = await startApiApp({
  config: {
    ...enqueueOnly,
    plugins: {
      model_policy: {
        static: {
          model_catalog: [
            modelEntry("first"),
            premiumEntry("default", { preference: { is_default: true, sort_order: 9 } }),
            modelEntry("off", { enabled: false }),
          ],
        },
      },
    },
  },
});
afterAll(() => app.close());

const create = (body: object): Promise<Answer> => app.call("POST", "/chats", { body });
const read = (id: string): Promise<Answer> => app.call("GET", `/chats/${id}`);
const problemOf = ({ status, body }: Answer): string => `${status} ${body.code} ${body.title}`;

interface Event {
  readonly kind: string;
  readonly queue: string;
  readonly payload: Record<string, unknown>;
}

/** What was enqueued under the key of a chat. */
const eventsOf = async (chatId: string): Promise<readonly Event[]> => {
  const { rows } = await app.db.query<{ kind: string; queue: string; payload: string }>(
    `select m.kind, p.queue, m.payload from outbox_message m join outbox_partition p on p.id = m.partition_id
     where m.payload like '%' || $1 || '%' order by m.id`,
    [chatId],
  );
  return rows.map((row) => ({ ...row, payload: JSON.parse(row.payload) as Record<string, unknown> }));
};

describe("POST /chats", () => {
  test("with nothing makes an empty chat with the default model and tells where it is", async () => {
    const { status, headers, body } = await create({});
    expect(status).toBe(201);
    expect(body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      model: "default",
      is_temporary: false,
      message_count: 0,
      created_at: body.updated_at,
      updated_at: body.created_at,
    });
    expect(headers.get("location")).toBe(`/v1/chats/${body.id}`);
    expect((await read(body.id)).body).toEqual(body);
    expect(Math.abs(Date.now() - Date.parse(body.created_at))).toBeLessThan(60_000);
  });

  test("makes a new chat each time", async () => {
    const [one, other] = [await create({ title: "Same" }), await create({ title: "Same" })];
    expect(one.body.id).not.toBe(other.body.id);
  });

  test("takes an enabled model", async () => {
    expect((await create({ model: "first" })).body.model).toBe("first");
  });

  test.each(["", " ", "off", "unknown", "First", " first", "provider-first", "x".repeat(5_000), "__proto__"])(
    "refuses the model '%s' and writes nothing",
    async (model) => {
      const before = await dataDigest(app.db);
      expect(problemOf(await create({ model }))).toBe("400 invalid_model Invalid Model");
      expect(await dataDigest(app.db)).toEqual(before);
    },
  );

  test.each<[string, string, string]>([
    ["as it is", "Release notes", "Release notes"],
    ["trimmed", " \n\u00a0 Release  notes\u2003\t", "Release  notes"],
    ["with 255 characters", "x".repeat(255), "x".repeat(255)],
    ["with 255 characters beyond the basic plane", "\u{1f600}".repeat(255), "\u{1f600}".repeat(255)],
    ["with 255 characters between blanks", `   ${"ä".repeat(255)}   `, "ä".repeat(255)],
    ["with markup and quotes", `<b>'";--</b>\\`, `<b>'";--</b>\\`],
  ])("keeps a title %s", async (_name, title, kept) => {
    const { body } = await create({ title });
    expect(body.title).toBe(kept);
    expect((await read(body.id)).body.title).toBe(kept);
  });

  test.each(["", "   ", "\u00a0\n", "x".repeat(256), "\u{1f600}".repeat(256)])(
    "refuses a title",
    async (title) => {
      const answer = await create({ title });
      expect(problemOf(answer)).toBe("400 invalid_request Validation Error");
      expect(answer.body.errors).toMatchObject([{ field: "title" }]);
    },
  );

  test("a temporary chat ends 24 hours after it was made", async () => {
    const { body } = await create({ is_temporary: true });
    const { rows } = await app.db.query<{ exact: boolean }>(
      "select expires_at = created_at + interval '24 hours' as exact from chats where id = $1",
      [body.id],
    );
    expect(rows).toEqual([{ exact: true }]);
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(86_400_000);
    expect((await app.call("PATCH", `/chats/${body.id}`, { body: { title: "Kept" } })).body.expires_at).toBe(
      body.expires_at,
    );
  });
});

describe("without a model to choose", () => {
  test.each<[string, object[]]>([
    ["no model at all", []],
    ["no model enabled", [modelEntry("off", { enabled: false })]],
  ])("with %s a chat cannot be made, and models are an empty list", async (_name, catalog) => {
    const other = await startApiApp({
      database: app.database,
      simulator: app.simulator,
      config: { ...enqueueOnly, plugins: { model_policy: { static: { model_catalog: catalog } } } },
    });
    try {
      expect(problemOf(await other.call("POST", "/chats", { body: {} }))).toBe(
        "400 invalid_model Invalid Model",
      );
      expect((await other.call("GET", "/models")).body).toEqual({ items: [] });
    } finally {
      await other.close();
    }
  });

  test("without a default the first enabled one in catalog order is taken, not the best nor the first", async () => {
    const catalog = [
      modelEntry("off", { enabled: false, preference: { is_default: true, sort_order: 0 } }),
      modelEntry("second", { preference: { is_default: false, sort_order: 5 } }),
      premiumEntry("third", { preference: { is_default: false, sort_order: 1 } }),
    ];
    const other = await startApiApp({
      database: app.database,
      simulator: app.simulator,
      config: { ...enqueueOnly, plugins: { model_policy: { static: { model_catalog: catalog } } } },
    });
    try {
      expect((await other.call("POST", "/chats", { body: {} })).body.model).toBe("second");
    } finally {
      await other.close();
    }
  });
});

describe("below a prefix", () => {
  test("Location names it, and only paths below it exist", async () => {
    const other = await startApiApp({
      database: app.database,
      simulator: app.simulator,
      config: { ...enqueueOnly, url_prefix: "/cf/mini-chat" },
    });
    try {
      const made = await other.call("POST", "/chats", { body: {} });
      expect(made.headers.get("location")).toBe(`/cf/mini-chat/v1/chats/${made.body.id}`);
      const there = await fetch(new URL(made.headers.get("location") ?? "", other.base), {
        headers: { authorization: `Bearer ${callers.ann.token}` },
      });
      expect(there.status).toBe(200);
      for (const target of ["/v1/chats", "/cf/v1/chats", "/mini-chat/v1/chats", "/cf/mini-chat/v1/chats/"]) {
        const answer = await other.raw({
          method: "GET",
          target,
          headers: { authorization: "Bearer token-ann" },
        });
        expect(problemOf(answer)).toBe("404 route_not_found Not Found");
      }
    } finally {
      await other.close();
    }
  });
});

describe("a chat", () => {
  test("counts its messages, moves with them, and shows the very instants that are stored", async () => {
    const id = await app.createChat();
    const before = (await read(id)).body;
    await app.ask(id, "PING");
    const { body } = await read(id);
    expect(body).toMatchObject({ message_count: 2, created_at: before.created_at, model: before.model });
    expect(body.updated_at > before.updated_at).toBe(true);
    const { rows } = await app.db.query<{ same: boolean }>(
      "select created_at = $2::timestamptz and updated_at = $3::timestamptz as same from chats where id = $1",
      [id, body.created_at, body.updated_at],
    );
    expect(rows).toEqual([{ same: true }]);
  });

  test("is found by its own timestamps in filters, digit by digit", async () => {
    const id = await app.createChat();
    await app.ask(id, "PING");
    const { body } = await read(id);
    const found = async (filter: string): Promise<string[]> => {
      const list = await app.call("GET", `/chats?limit=100&$filter=${encodeURIComponent(filter)}`);
      return list.body.items.map((item: { id: string }) => item.id);
    };
    expect(await found(`updated_at eq ${body.updated_at}`)).toEqual([id]);
    expect(await found(`updated_at gt ${body.updated_at}`)).not.toContain(id);
    expect(await found(`updated_at ge ${body.updated_at}`)).toContain(id);
    const messages = (await app.call("GET", `/chats/${id}/messages`)).body.items;
    for (const message of messages) {
      const same = await app.call("GET", `/chats/${id}/messages?$filter=created_at eq ${message.created_at}`);
      expect(same.body.items).toEqual([message]);
    }
  });

  test("keeps whole seconds and microseconds apart on the wire", async () => {
    const id = await app.createChat();
    for (const [stored, shown] of [
      ["2026-03-01T10:15:31Z", "2026-03-01T10:15:31Z"],
      ["2026-03-01T10:15:31.5Z", "2026-03-01T10:15:31.5Z"],
      ["2026-03-01T10:15:31.000001Z", "2026-03-01T10:15:31.000001Z"],
      ["2026-03-01T12:15:31.123456+02:00", "2026-03-01T10:15:31.123456Z"],
    ]) {
      await app.db.query("update chats set updated_at = $2 where id = $1", [id, stored]);
      expect((await read(id)).body.updated_at).toBe(shown);
    }
  });

  test("is found by its id in either case", async () => {
    const id = await app.createChat();
    expect((await read(id.toUpperCase())).body.id).toBe(id);
  });
});

describe("PATCH /chats/{id}", () => {
  test("renames, trims, moves the chat, and may be repeated; model and the rest stay", async () => {
    const { body: before } = await create({ title: "Old" });
    const rename = (body: object): Promise<Answer> => app.call("PATCH", `/chats/${before.id}`, { body });
    const once = await rename({ title: "  New ", model: "first", is_temporary: true, message_count: 7 });
    expect(once.status).toBe(200);
    expect(once.body).toEqual({ ...before, title: "New", updated_at: once.body.updated_at });
    expect(once.body.updated_at > before.updated_at).toBe(true);
    expect((await rename({ title: "New" })).body.title).toBe("New");
    expect((await read(before.id)).body.title).toBe("New");
  });

  test("is not found for what is not the caller's, before its title is looked at or after", async () => {
    const chatId = await app.createChat(callers.bob);
    for (const id of [chatId, randomUUID()]) {
      const answer = await app.call("PATCH", `/chats/${id}`, { body: { title: "Mine" } });
      expect(problemOf(answer)).toBe("404 chat_not_found Chat Not Found");
    }
    expect((await app.call("GET", `/chats/${chatId}`, { caller: callers.bob })).body.title).toBeUndefined();
  });
});

describe("DELETE /chats/{id}", () => {
  test("is soft and final: the second one is a 404, and so is everything below", async () => {
    const id = await app.createChat();
    const { requestId } = await app.ask(id, "PING");
    const first = await app.call("DELETE", `/chats/${id}`);
    expect([first.status, first.body]).toEqual([204, ""]);
    expect(problemOf(await app.call("DELETE", `/chats/${id}`))).toBe("404 chat_not_found Chat Not Found");
    for (const path of ["", "/messages", `/turns/${requestId}`]) {
      expect((await app.call("GET", `/chats/${id}${path}`)).body.code).toBe("chat_not_found");
    }
    expect((await app.call("PATCH", `/chats/${id}`, { body: { title: "x" } })).status).toBe(404);
    const list = await app.call("GET", "/chats?limit=100&$select=id");
    expect(list.body.items).not.toContainEqual({ id });
    const { rows } = await app.db.query("select count(*) as kept from messages where chat_id = $1", [id]);
    expect(rows).toEqual([{ kept: 2n }]);
  });

  test("enqueues one cleanup event that names the moment of the deletion, to the millisecond", async () => {
    const id = await app.createChat();
    await app.call("DELETE", `/chats/${id}`);
    await app.call("DELETE", `/chats/${id}`);
    const { rows } = await app.db.query<{ at: string; moved: boolean }>(
      `select to_char(deleted_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, updated_at = deleted_at as moved
       from chats where id = $1`,
      [id],
    );
    expect(rows[0]?.moved).toBe(true);
    const events = await eventsOf(id);
    expect(events).toEqual([
      {
        kind: events[0]?.kind,
        queue: app.config.outbox.chat_cleanup_queue_name,
        payload: {
          reason: "chat_soft_delete",
          tenant_id: callers.ann.tenantId,
          chat_id: id,
          system_request_id: expect.stringMatching(/^[0-9a-f-]{14}4/),
          chat_deleted_at: rows[0]?.at,
        },
      },
    ]);
  });

  test("of many at once exactly one succeeds, with one event", async () => {
    const id = await app.createChat();
    const answers = await Promise.all(Array.from({ length: 12 }, () => app.call("DELETE", `/chats/${id}`)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([204, ...Array(11).fill(404)]);
    expect(await eventsOf(id)).toHaveLength(1);
  });

  test("commits with its event or not at all", async () => {
    const id = await app.createChat();
    const attachmentId = await addDocument(app, callers.ann, id);
    await app.db.query(`
      create function refuse_events() returns trigger language plpgsql
      as 'begin raise exception ''no room''; end';
      create trigger refuse_events before insert on outbox_message execute function refuse_events()`);
    try {
      expect((await app.call("DELETE", `/chats/${id}`)).status).toBe(500);
    } finally {
      await app.db.query("drop function refuse_events cascade");
    }
    expect((await read(id)).status).toBe(200);
    const { rows } = await app.db.query("select cleanup_status from attachments where id = $1", [
      attachmentId,
    ]);
    expect(rows).toEqual([{ cleanup_status: null }]);
    expect((await app.call("DELETE", `/chats/${id}`)).status).toBe(204);
  });

  test("marks live attachments for cleanup, and leaves alone what was deleted before", async () => {
    const id = await app.createChat();
    const live = await addDocument(app, callers.ann, id);
    const gone = await addDocument(app, callers.ann, id);
    await app.db.query("update attachments set deleted_at = now(), cleanup_status = 'done' where id = $1", [
      gone,
    ]);
    await app.call("DELETE", `/chats/${id}`);
    const { rows } = await app.db.query<{ id: string }>(
      "select id, cleanup_status, deleted_at is null as live from attachments where chat_id = $1",
      [id],
    );
    expect(new Map(rows.map((row) => [row.id, row]))).toEqual(
      new Map([
        [live, { id: live, cleanup_status: "pending", live: true }],
        [gone, { id: gone, cleanup_status: "done", live: false }],
      ]),
    );
  });

  test("asks a running turn to stop; it ends cancelled, settled, and its stream says so", async () => {
    const id = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "Half an " }, { wait_for: "never" }, { text: "answer" }] });
    const stream = await app.send(id, { content: "Tell me", request_id: requestId });
    await stream.until("delta");
    expect((await app.call("DELETE", `/chats/${id}`)).status).toBe(204);
    const rest = await stream.rest();
    expect(rest.at(-1)).toMatchObject({ event: "error", data: { code: "cancelled" } });
    const { rows } = await app.db.query(
      `select t.state, t.cancel_reason, m.content,
         (select sum(reserved_credits_micro)::bigint from quota_usage where user_id = $2) as reserved
       from chat_turns t join messages m on m.id = t.assistant_message_id where t.chat_id = $1`,
      [id, callers.ann.userId],
    );
    expect(rows).toEqual([
      { state: "cancelled", cancel_reason: "chat_deleted", content: "Half an ", reserved: 0n },
    ]);
    expect((await app.call("GET", `/chats/${id}/turns/${requestId}`)).body.code).toBe("chat_not_found");
  });
});
