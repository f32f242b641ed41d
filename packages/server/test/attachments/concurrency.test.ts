import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { type Answer, eventually, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import {
  calm,
  cleanupEvents,
  heldOf,
  newGate,
  problemOf,
  rowsOf,
  samplesOf,
  startUploadApp,
  storeRows,
  textFile,
  upload,
} from "./support.ts";

/** Five users of one tenant. */
const users: readonly Caller[] = Array.from({ length: 5 }, (_, at) => ({
  token: `token-of-user-${at}`,
  tenantId: callers.ann.tenantId,
  userId: randomUUID(),
}));
const tokens: Tree[] = [...Object.values(callers), ...users].map((user) => ({
  token: user.token,
  tenant_id: user.tenantId,
  user_id: user.userId,
}));

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startUploadApp({ config: { auth: { tokens } } });
});
afterAll(() => app.close());
beforeEach(async () => {
  calm(app);
  chatId = await app.createChat();
});

const times = (count: number, one: (at: number) => Promise<Answer>): Promise<Answer[]> =>
  Promise.all(Array.from({ length: count }, (_, at) => one(at)));

/** With every permit a test could want. */
const startWide = (config: Tree = {}): Promise<TestApp> =>
  startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: {
      ...config,
      rag: { max_concurrent_uploads: 50, max_concurrent_uploads_per_user: 50, ...(config["rag"] as Tree) },
    },
  });

describe("permits (attachments.md §3.8, §7)", () => {
  const uploadsHeldAt = async (gate: string, count: number): Promise<void> => {
    await eventually(async () => {
      const { rows } = await app.db.query("select from attachments where status = 'pending'");
      return rows.length >= count && app.simulator.state().waiting_gates.includes(gate);
    });
  };

  test("the fourth upload of one user is refused at once, another user's is not, and a place comes back", async () => {
    const gate = newGate();
    app.simulator.setState({ fail: { upload: { times: 4, gate } } });
    const three = [upload(app, chatId), upload(app, chatId), upload(app, chatId)];
    await uploadsHeldAt(gate, 3);
    const fourth = await upload(app, chatId);
    expect(problemOf(fourth)).toBe("503 upload_concurrency_limit Too Many Uploads");
    expect(fourth.headers.get("retry-after")).toBe("5");
    const amys = upload(app, await app.createChat(callers.amy), textFile, { caller: callers.amy });
    await uploadsHeldAt(gate, 4);
    app.simulator.open(gate);
    expect((await Promise.all([...three, amys])).map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    expect((await upload(app, chatId)).status).toBe(201);
    const results = await samplesOf(app, "attachment_upload_total");
    expect(results['{kind="document",result="concurrency_limit"}']).toBe(1);
  });

  test("the eleventh upload of the process is refused at once, whoever sends it", async () => {
    const gate = newGate();
    app.simulator.setState({ fail: { upload: { times: 100, gate } } });
    const chats = await Promise.all(users.map((user) => app.createChat(user)));
    const send = (at: number): Promise<Answer> =>
      upload(app, chats[at % 5] ?? "", textFile, { caller: users[at % 5] ?? callers.ann });
    const ten = Array.from({ length: 10 }, (_, at) => send(at));
    await uploadsHeldAt(gate, 10);
    expect(problemOf(await upload(app, chatId))).toBe("503 upload_concurrency_limit Too Many Uploads");
    // Refused for its type before a place is looked for.
    expect((await upload(app, chatId, { ...textFile, type: "application/zip" })).status).toBe(415);
    app.simulator.open(gate);
    expect((await Promise.all(ten)).map(({ status }) => status)).toEqual(Array(10).fill(201));
    expect((await upload(app, chatId)).status).toBe(201);
  });
});

describe("one vector store per chat (attachments.md §12)", () => {
  test("20 parallel first uploads: one store at the provider, 20 ready attachments in it", async () => {
    const wide = await startWide();
    try {
      const before = app.simulator.state().vector_stores;
      const answers = await times(20, () => upload(wide, chatId));
      expect(answers.map(({ status, body }) => `${status} ${body.status}`)).toEqual(
        Array(20).fill("201 ready"),
      );
      expect(app.simulator.state().vector_stores - before).toBe(1);
      const { files, vector_stores: stores } = heldOf(app, chatId);
      expect(stores[0]?.files.toSorted()).toEqual(files.map(({ id }) => id).toSorted());
      expect(files).toHaveLength(20);
      expect(await storeRows(app.db, chatId)).toMatchObject([
        { vector_store_id: stores[0]?.id, file_count: 20 },
      ]);
    } finally {
      await wide.close();
    }
  });

  test("of two processes, too", async () => {
    const [one, other] = [await startWide(), await startWide()];
    try {
      const before = app.simulator.state().vector_stores;
      const answers = await times(10, (at) => upload(at % 2 === 0 ? one : other, chatId));
      expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(201));
      expect(app.simulator.state().vector_stores - before).toBe(1);
    } finally {
      await Promise.all([one.close(), other.close()]);
    }
  });

  test("a loser gives up after its looks, a store that never comes: 502 with Retry-After", async () => {
    const gate = newGate();
    app.simulator.setState({ fail: { store_creation: { times: 1, gate } } });
    const winner = upload(app, chatId);
    await app.simulator.arrived(gate);
    const loser = await upload(app, chatId);
    expect(problemOf(loser)).toBe("502 vector_store_timeout vector_store_timeout");
    expect(loser.headers.get("retry-after")).toBe("3");
    app.simulator.open(gate);
    expect((await winner).status).toBe(201);
    expect((await rowsOf(app.db, chatId)).map((row) => `${row.status} ${row.error_code}`).toSorted()).toEqual(
      ["failed vector_store_failed", "ready null"],
    );
    expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
  });

  test("a loser whose winner fails: 502 vector_store_race, and it makes no store itself", async () => {
    const gate = newGate();
    app.simulator.setState({ fail: { store_creation: { times: 1, gate, status: 500 } } });
    const winner = upload(app, chatId);
    await app.simulator.arrived(gate);
    const before = app.simulator.state().vector_stores;
    const loser = upload(app, chatId);
    await eventually(async () => {
      const { rows } = await app.db.query(
        "select from attachments where chat_id = $1 and status = 'uploaded'",
        [chatId],
      );
      return rows.length === 2;
    });
    app.simulator.open(gate);
    expect(problemOf(await winner)).toBe("502 provider_unavailable provider_unavailable");
    expect(problemOf(await loser)).toBe("502 vector_store_race vector_store_race");
    expect(app.simulator.state().vector_stores).toBe(before);
  });

  const deadWinner = (age: string): Promise<unknown> =>
    app.db.query(
      `insert into chat_vector_stores (id, tenant_id, chat_id, provider, provider_id, claimed_at)
       values (gen_random_uuid(), $1, $2, 'sim', 'sim', now() - $3::interval)`,
      [callers.ann.tenantId, chatId, age],
    );

  test("the placeholder of a dead winner is taken over after 60 s, by one of many", async () => {
    await deadWinner("61 seconds");
    const wide = await startWide();
    try {
      const before = app.simulator.state().vector_stores;
      const answers = await times(8, () => upload(wide, chatId));
      expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(201));
      expect(app.simulator.state().vector_stores - before).toBe(1);
    } finally {
      await wide.close();
    }
  });

  test("a younger one is not", async () => {
    await deadWinner("50 seconds");
    expect(problemOf(await upload(app, chatId))).toBe("502 vector_store_timeout vector_store_timeout");
  });

  test("a slow winner that was taken over throws its store away and uses the other", async () => {
    const gate = newGate();
    app.simulator.setState({ fail: { store_creation: { times: 1, gate } } });
    const before = app.simulator.state().vector_stores;
    const slow = upload(app, chatId);
    await app.simulator.arrived(gate);
    await app.db.query(
      "update chat_vector_stores set claimed_at = now() - interval '61 s' where chat_id = $1",
      [chatId],
    );
    expect((await upload(app, chatId)).status).toBe(201);
    app.simulator.open(gate);
    expect((await slow).status).toBe(201);
    expect(app.simulator.state().vector_stores - before).toBe(1);
    expect(heldOf(app, chatId).vector_stores).toMatchObject([
      { files: [expect.any(String), expect.any(String)] },
    ]);
  });

  test("a slow winner that was taken over and fails leaves the new claim alone", async () => {
    const [first, second] = [newGate(), newGate()];
    app.simulator.setState({ fail: { store_creation: { times: 1, gate: first, status: 500 } } });
    const slow = upload(app, chatId);
    await app.simulator.arrived(first);
    await app.db.query(
      "update chat_vector_stores set claimed_at = now() - interval '61 s' where chat_id = $1",
      [chatId],
    );
    app.simulator.setState({ fail: { store_creation: { times: 1, gate: second } } });
    const next = upload(app, chatId);
    await app.simulator.arrived(second);
    app.simulator.open(first);
    expect((await slow).status).toBe(502);
    expect(await storeRows(app.db, chatId)).toHaveLength(1);
    app.simulator.open(second);
    expect((await next).status).toBe(201);
  });

  test("files of the chat that live elsewhere: 409, and the new file is cleaned up", async () => {
    await upload(app, chatId);
    await app.db.query("update chat_vector_stores set provider = 'elsewhere' where chat_id = $1", [chatId]);
    expect(problemOf(await upload(app, chatId))).toBe("409 provider_mismatch Conflict");
    const rows = await rowsOf(app.db, chatId);
    expect(rows[1]).toMatchObject({ error_code: "vector_store_failed", cleanup_status: "pending" });
  });
});

describe("limits of a chat under parallel uploads (attachments.md §7)", () => {
  test("never more documents than allowed; images do not count among them", async () => {
    const wide = await startWide({ rag: { max_documents_per_chat: 5 } });
    try {
      const answers = await times(12, () => upload(wide, chatId));
      const codes = answers.map(({ status, body }) => (status === 201 ? "ready" : body.code)).toSorted();
      expect(codes).toEqual([...Array(7).fill("document_limit_exceeded"), ...Array(5).fill("ready")]);
      const gif = { filename: "a.gif", type: "image/gif", bytes: "GIF89a" };
      expect((await upload(wide, chatId, gif)).status).toBe(201);
    } finally {
      await wide.close();
    }
  });

  test("never more bytes than allowed, with and without a length", async () => {
    const wide = await startWide({ rag: { max_total_upload_mb_per_chat: 1 } });
    try {
      for (const chunked of [false, true]) {
        const chat = await app.createChat();
        const file = { ...textFile, bytes: "x".repeat(200_000) };
        const answers = await times(10, () => upload(wide, chat, file, { chunked }));
        const ready = answers.filter(({ status }) => status === 201);
        expect(ready.length).toBeLessThanOrEqual(5);
        for (const { status, body } of answers) {
          if (status !== 201) expect(body.code).toBe("storage_limit_exceeded");
        }
        const { rows } = await app.db.query<{ bytes: bigint }>(
          `select coalesce(sum(size_bytes), 0)::bigint as bytes from attachments
           where chat_id = $1 and status in ('uploaded', 'ready')`,
          [chat],
        );
        expect(Number(rows[0]?.bytes)).toBeLessThanOrEqual(1_048_576);
      }
    } finally {
      await wide.close();
    }
  });
});

test("an upload against the delete of its chat: whoever is first, no file is forgotten", async () => {
  const wide = await startWide();
  try {
    for (let round = 0; round < 10; round += 1) {
      const chat = await app.createChat();
      const uploading = times(3, () => upload(wide, chat));
      await new Promise((resolve) => setTimeout(resolve, round * 4));
      expect((await app.call("DELETE", `/chats/${chat}`)).status).toBe(204);
      for (const { status, body } of await uploading) {
        // A loser of the store sees only that its winner, who noticed the delete, gave up.
        expect(["ready", "attachment_not_found", "chat_not_found", "vector_store_race"]).toContain(
          status === 201 ? body.status : body.code,
        );
      }
      const rows = await rowsOf(app.db, chat);
      const known = new Set(rows.map((row) => row.provider_file_id));
      for (const { id } of heldOf(app, chat).files) expect(known).toContain(id);
      for (const row of rows) expect(row.cleanup_status).toBe("pending");
      const events = await cleanupEvents(app.db, chat);
      expect(events.every(({ kind }) => kind === "chat_cleanup")).toBe(true);
      expect(events.length).toBeGreaterThan(0);
      const stores = await storeRows(app.db, chat);
      for (const store of heldOf(app, chat).vector_stores) {
        expect(stores.map((row) => row.vector_store_id)).toContain(store.id);
      }
    }
  } finally {
    await wide.close();
  }
});
