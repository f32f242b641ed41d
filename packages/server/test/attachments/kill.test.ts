import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createGround, found, type Ground, holdLock, newChat, waitingForLocks } from "../crash/support.ts";
import { callApi, eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import {
  formOf,
  formType,
  newGate,
  onlyRow,
  openRawUpload,
  partOf,
  rowsOf,
  storageConfig,
  storeRows,
  textFile,
  upload,
} from "./support.ts";

let ground: Ground;
let server: ServerProcess;
let chatId: string;

beforeEach(async () => {
  ground = await createGround();
  server = await ground.start({ config: storageConfig });
  chatId = await newChat(server);
});
afterEach(() => ground.clear());

/** The rows the rule for stale uploads finds once their time has come (attachments.md §14). */
const staleRows = async (): Promise<string[]> => {
  const { rows } = await ground.db.query<{ id: string }>(
    `select id from attachments
     where status in ('pending', 'uploaded')
       and deleted_at is null
       and updated_at < now() + interval '1 hour' - interval '900 seconds'`,
  );
  return rows.map(({ id }) => id);
};

const send = (): Promise<unknown> => {
  const sent = upload(server, chatId);
  return sent.catch(() => "gone");
};

/** The chat is not harmed: a new process takes the next file. */
const expectNextUpload = async (): Promise<void> => {
  const next = await ground.start({ config: storageConfig });
  expect((await upload(next, chatId)).status).toBe(201);
};

describe("kill -9 of the process at each step of an upload (attachments.md §17)", () => {
  test("before the reserve commits: nothing is left", async () => {
    const release = await holdLock(ground.databaseUrl, "select from chats where id = $1 for update", [
      chatId,
    ]);
    const sent = send();
    await waitingForLocks(ground.db);
    await server.kill();
    await release();
    expect(await sent).toBe("gone");
    expect(await rowsOf(ground.db, chatId)).toEqual([]);
    expect(ground.simulator.held().files).toEqual([]);
    await expectNextUpload();
  });

  test("in the middle of the file: pending without a file", async () => {
    const part = partOf({ ...textFile, bytes: "x".repeat(500_000) });
    const sent = await openRawUpload(server, chatId, [formType, `content-length: ${part.length + 100}`]);
    sent.socket.write(part.subarray(0, 300_000));
    await found(ground.db, "select from attachments where status = 'pending'");
    await server.kill();
    const row = await onlyRow(ground.db, chatId);
    expect(row).toMatchObject({ status: "pending", provider_file_id: null });
    expect(await staleRows()).toEqual([row.id]);
    await expectNextUpload();
  });

  test("the provider has accepted, its answer is lost: pending, the file told by its name alone", async () => {
    const gate = newGate();
    ground.simulator.setState({ fail: { upload: { times: 1, gate, after: true } } });
    const sent = send();
    await ground.simulator.arrived(gate);
    await server.kill();
    expect(await sent).toBe("gone");
    const row = await onlyRow(ground.db, chatId);
    expect(row).toMatchObject({ status: "pending", provider_file_id: null });
    expect(ground.simulator.held().files).toMatchObject([{ filename: `${chatId}_${row.id}.txt` }]);
    expect(await staleRows()).toEqual([row.id]);
    await expectNextUpload();
  });

  test.each(["store_creation", "indexing"] as const)(
    "during %s: uploaded, with its file",
    async (operation) => {
      const gate = newGate();
      ground.simulator.setState({ fail: { [operation]: { times: 1, gate } } });
      const sent = send();
      await ground.simulator.arrived(gate);
      await server.kill();
      expect(await sent).toBe("gone");
      const row = await onlyRow(ground.db, chatId);
      expect(row).toMatchObject({ status: "uploaded", size_bytes: 18n, cleanup_status: null });
      expect(row.provider_file_id).toBe(ground.simulator.held().files[0]?.id);
      expect(await staleRows()).toEqual([row.id]);
      if (operation === "store_creation") {
        // The winner died with its placeholder: it is taken over after 60 s.
        expect(await storeRows(ground.db, chatId)).toMatchObject([{ vector_store_id: null }]);
        await ground.db.query("update chat_vector_stores set claimed_at = now() - interval '61 seconds'");
      }
      await expectNextUpload();
      expect(await storeRows(ground.db, chatId)).toMatchObject([{ file_count: 1 }]);
    },
  );

  test("the store is made, its id not stored: the next upload makes another one", async () => {
    const gate = newGate();
    ground.simulator.setState({ fail: { store_creation: { times: 1, gate, after: true } } });
    const sent = send();
    await ground.simulator.arrived(gate);
    await server.kill();
    expect(await sent).toBe("gone");
    expect(ground.simulator.held().vector_stores).toHaveLength(1);
    await ground.db.query("update chat_vector_stores set claimed_at = now() - interval '61 seconds'");
    await expectNextUpload();
    const [store] = await storeRows(ground.db, chatId);
    expect(ground.simulator.held().vector_stores.map(({ id }) => id)).toContain(store?.vector_store_id);
  });

  test("while the index is waited for: uploaded, with its file", async () => {
    ground.simulator.setState({ indexing: { status: "completed", polls: 1_000 } });
    const sent = send();
    await ground.simulator.waitForRequest(({ method }) => method === "GET");
    await server.kill();
    expect(await sent).toBe("gone");
    const row = await onlyRow(ground.db, chatId);
    expect(row.status).toBe("uploaded");
    expect(await staleRows()).toEqual([row.id]);
  });

  test("before ready commits: uploaded; the user is not charged for bytes of an image", async () => {
    const form = formOf({ filename: "a.gif", type: "image/gif", bytes: "GIF89a" });
    const gate = newGate();
    ground.simulator.setState({ fail: { upload: { times: 1, gate } } });
    const sent = await openRawUpload(server, chatId, [formType, `content-length: ${form.length}`]);
    sent.socket.write(form);
    await ground.simulator.arrived(gate);
    await ground.db.query(
      `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
       select tenant_id, uploaded_by_user_id, 'daily', (now() at time zone 'UTC')::date, 'total' from attachments`,
    );
    const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
    ground.simulator.open(gate);
    await waitingForLocks(ground.db);
    await server.kill();
    await release();
    const row = await onlyRow(ground.db, chatId);
    expect(row).toMatchObject({ status: "uploaded", size_bytes: 6n });
    expect(await staleRows()).toEqual([row.id]);
    expect((await ground.db.query("select from quota_usage where image_upload_bytes > 0")).rowCount).toBe(0);
  });

  test("after ready: the file is there, though its client was never told", async () => {
    const { status, body } = await upload(server, chatId);
    expect(status).toBe(201);
    await server.kill();
    const next = await ground.start({ config: storageConfig });
    const read = await callApi(`${next.base}/chats/${chatId}/attachments/${body.id}`, "GET");
    expect(read.body).toEqual(body);
    expect(await staleRows()).toEqual([]);
  });

  test("after a delete has committed: its event waits in the outbox", async () => {
    const { body } = await upload(server, chatId);
    const path = `${server.base}/chats/${chatId}/attachments/${body.id}`;
    expect((await callApi(path, "DELETE")).status).toBe(204);
    await server.kill();
    await eventually(async () => {
      const { rowCount } = await ground.db.query(
        "select from outbox_message where kind = 'attachment_cleanup'",
      );
      return rowCount === 1;
    });
  });
});
