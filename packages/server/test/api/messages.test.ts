import { randomUUID } from "node:crypto";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { callers } from "../support/config.ts";
import { addDocument } from "./operations.ts";
import { startApiApp } from "./support.ts";

const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());

const { ann } = callers;
let chatId: string;
let path: string;
beforeEach(async () => {
  chatId = await app.createChat();
  path = `/chats/${chatId}/messages`;
});

interface Stored {
  readonly role?: string;
  readonly content?: string;
  readonly requestId?: string | null;
  readonly more?: Readonly<Record<string, unknown>>;
}

/** Stores a message as the turns do; its id. */
const store = async ({
  role = "user",
  content = "text",
  requestId = randomUUID(),
  more = {},
}: Stored): Promise<string> => {
  const id = randomUUID();
  const values = {
    id,
    tenant_id: ann.tenantId,
    chat_id: chatId,
    request_id: requestId,
    role,
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

const items = async (caller = ann) => (await app.call("GET", path, { caller })).body.items;

describe("GET /chats/{id}/messages", () => {
  test("shows both messages of a turn, joined by its request id, with what is known of the answer", async () => {
    const { requestId } = await app.ask(chatId, "  PING? ");
    expect(await items()).toEqual([
      {
        id: expect.any(String),
        request_id: requestId,
        role: "user",
        content: "  PING? ",
        attachments: [],
        my_reaction: null,
        created_at: expect.any(String),
      },
      {
        id: expect.any(String),
        request_id: requestId,
        role: "assistant",
        content: "Hello from the simulator.",
        attachments: [],
        my_reaction: null,
        model: "standard",
        input_tokens: 50,
        output_tokens: 12,
        created_at: expect.any(String),
      },
    ]);
  });

  test("leaves counters out that are zero, and the model of what is no answer", async () => {
    await store({ role: "assistant", more: { model: "standard", input_tokens: 0, output_tokens: 7 } });
    await store({ role: "user", more: { model: "standard" } });
    const [answer, question] = await items();
    expect(answer).toMatchObject({ model: "standard", output_tokens: 7 });
    expect(Object.keys(answer)).not.toContain("input_tokens");
    for (const name of ["model", "input_tokens", "output_tokens"])
      expect(Object.keys(question)).not.toContain(name);
  });

  test("shows counters beyond 2^53 with all their digits", async () => {
    await store({ role: "assistant", more: { input_tokens: 9_007_199_254_740_993n } });
    const response = await fetch(`${app.base}${path}`, { headers: { authorization: `Bearer ${ann.token}` } });
    expect(await response.text()).toContain('"input_tokens":9007199254740993,');
  });

  test("lists turns of any state and what a summary covers; not what is deleted or belongs to no turn", async () => {
    const shown = [
      await store({ content: "folded into a summary", more: { is_compressed: true } }),
      await store({ role: "system", content: "of a turn" }),
      await store({ role: "assistant", content: "" }),
    ];
    await store({ content: "deleted", more: { deleted_at: "2026-03-01T00:00:00Z" } });
    await store({ content: "of no turn", requestId: null });
    expect((await items()).map(({ id }: { id: string }) => id).toSorted()).toEqual(shown.toSorted());
  });

  test("keeps attachments in the order sent, without deleted ones and without what a provider calls them", async () => {
    const message = await store({});
    const attachments: string[] = [];
    for (let at = 0; at < 4; at += 1) attachments.push(await addDocument(app, ann, chatId));
    const order = [2, 0, 3, 1];
    for (const [position, at] of order.entries()) {
      await app.db.query(
        "insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position) values ($1, $2, $3, $4, $5)",
        [ann.tenantId, chatId, message, attachments[at], position],
      );
    }
    await app.db.query("update attachments set deleted_at = now() where id = $1", [attachments[3]]);
    const [item] = await items();
    expect(item.attachments).toEqual(
      [2, 0, 1].map((at) => ({
        attachment_id: attachments[at],
        kind: "document",
        filename: "plan.txt",
        status: "ready",
      })),
    );
    expect(JSON.stringify(item)).not.toContain("file-");
  });

  test("shows a thumbnail as base64", async () => {
    const message = await store({});
    const attachment = randomUUID();
    const picture = Buffer.from([0x52, 0x49, 0x46, 0x46, 0xff]);
    await app.db.query(
      `insert into attachments (
         id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes, storage_backend,
         provider_id, provider_file_id, status, attachment_kind, img_thumbnail, img_thumbnail_width,
         img_thumbnail_height
       ) values ($1, $2, $3, $4, 'a.png', 'image/png', 5, 'memory', 'sim', 'file-x', 'ready', 'image', $5, 128, 96)`,
      [attachment, ann.tenantId, chatId, ann.userId, picture],
    );
    await app.db.query(
      "insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position) values ($1, $2, $3, $4, 0)",
      [ann.tenantId, chatId, message, attachment],
    );
    expect((await items())[0].attachments[0].img_thumbnail).toEqual({
      content_type: "image/webp",
      width: 128,
      height: 96,
      data_base64: picture.toString("base64"),
    });
  });

  test("shows the caller's own reaction only", async () => {
    const message = await store({ role: "assistant" });
    const react = (userId: string, reaction: string): Promise<unknown> =>
      app.db.query(
        "insert into message_reactions (tenant_id, chat_id, message_id, user_id, reaction) values ($1, $2, $3, $4, $5)",
        [ann.tenantId, chatId, message, userId, reaction],
      );
    await react(callers.amy.userId, "dislike");
    expect((await items())[0].my_reaction).toBeNull();
    await react(ann.userId, "like");
    expect((await items())[0].my_reaction).toBe("like");
  });

  test("reads a page with the same number of statements whatever its size", async () => {
    const statements = async (limit: number): Promise<number> => {
      const run = vi.spyOn(app.db, "run");
      try {
        await app.call("GET", `${path}?limit=${limit}`);
        return run.mock.calls.length;
      } finally {
        run.mockRestore();
      }
    };
    for (let at = 0; at < 30; at += 1) await store({});
    const one = await statements(1);
    expect(one).toBeGreaterThan(0);
    expect(await statements(30)).toBe(one);
  });
});
