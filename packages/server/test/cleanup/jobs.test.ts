import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { cleanupJobs } from "../../src/app/cleanup.ts";
import { reviveForgottenCleanups } from "../../src/attachments/cleanup-reconcile.ts";
import type { FileKey } from "../../src/attachments/cleanup-store.ts";
import { type ReconcileDeps, reconcileProviders } from "../../src/attachments/reconcile.ts";
import { failStaleUploads } from "../../src/attachments/stale.ts";
import { asTenantId } from "../../src/auth/actor.ts";
import type { Config } from "../../src/config/schema.ts";
import type { Tx } from "../../src/db/tx.ts";
import { createOutbox, type Outbox } from "../../src/outbox/outbox.ts";
import { hasOutstandingCleanup } from "../../src/outbox/outstanding-store.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { entry as providerEntry, recordTelemetry, registryOf } from "../providers/support.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  cleanupConfig,
  cleanupEvents,
  cleanupOf,
  createProviderStore,
  enqueueRaw,
  insertAttachment,
  receiptsOf,
  softDelete,
  stockChat,
  uploadFile,
} from "./support.ts";

let app: TestApp;
let outbox: Outbox;
beforeAll(async () => {
  // Its own jobs stay away: the first run of each comes within its interval.
  const config = { ...cleanupConfig, cleanup_worker: { reconcile_interval_secs: 86_400 } };
  app = await startTestApp({ config });
  outbox = createOutbox({ db: app.db, config: app.config.outbox, instanceId: "test" });
  await outbox.register();
});
afterAll(() => app.close());
afterEach(async () => {
  app.simulator.reset();
  await app.db.query("delete from chat_vector_stores");
  await app.db.query("delete from attachments");
  await app.db.query("delete from outbox_message");
  await app.db.query("delete from outbox_dead");
});

const never = new AbortController().signal;
const { logger } = recordTelemetry();

const deps = (limits = { staleSecs: 900, batchSize: 32 }) => ({
  db: app.db,
  outbox: outbox.enqueuer,
  logger,
  limits,
  isOutstanding: (tx: Tx, file: FileKey) =>
    hasOutstandingCleanup(tx, file, {
      attachmentCleanup: "mini-chat.attachment_cleanup",
      chatCleanup: "mini-chat.chat_cleanup",
    }),
});

const quiet = (): Promise<void> => eventually(async () => (await cleanupEvents(app.db)).waiting === 0);

describe("stale uploads (attachments.md §14)", () => {
  test("fail as interrupted, and a file that is known is cleaned up", async () => {
    const chatId = await app.createChat();
    const fileId = await uploadFile(app.simulator, "x.txt");
    const unknown = await insertAttachment(app.db, chatId, { fileId: null, status: "pending", ageSecs: 901 });
    const known = await insertAttachment(app.db, chatId, { fileId, status: "uploaded", ageSecs: 901 });
    const fresh = await insertAttachment(app.db, chatId, { fileId: null, status: "pending", ageSecs: 890 });
    const ready = await insertAttachment(app.db, chatId, { fileId: "f", status: "ready", ageSecs: 5_000 });
    expect(await failStaleUploads(deps(), never)).toBe(2);
    await quiet();
    const rows = new Map((await cleanupOf(app.db, chatId)).map((row) => [row.id, row]));
    const interrupted = { status: "failed", errorCode: "upload_interrupted" };
    expect(rows.get(unknown)).toMatchObject({ ...interrupted, cleanupStatus: null });
    expect(rows.get(known)).toMatchObject({ ...interrupted, cleanupStatus: "done" });
    expect(rows.get(fresh)).toMatchObject({ status: "pending" });
    expect(rows.get(ready)).toMatchObject({ status: "ready", cleanupStatus: null });
    expect(app.simulator.held().files).toEqual([]);
  });

  test("are found batch by batch, by one of two who look at once", async () => {
    const chatId = await app.createChat();
    for (let n = 0; n < 7; n += 1) {
      await insertAttachment(app.db, chatId, { fileId: null, status: "pending", ageSecs: 1_000 });
    }
    const limits = { staleSecs: 900, batchSize: 3 };
    const ended = await Promise.all([
      failStaleUploads(deps(limits), never),
      failStaleUploads(deps(limits), never),
    ]);
    expect(ended[0] + ended[1]).toBe(7);
  });

  test("of a deleted chat leave their file to its cleanup", async () => {
    const chatId = await app.createChat();
    await app.db.query("update chats set deleted_at = now() where id = $1", [chatId]);
    await insertAttachment(app.db, chatId, {
      fileId: "file-x",
      status: "uploaded",
      cleanupStatus: "pending",
      ageSecs: 901,
    });
    expect(await failStaleUploads(deps(), never)).toBe(1);
    expect((await cleanupEvents(app.db)).waiting).toBe(0);
  });
});

describe("forgotten cleanups (attachments.md §14)", () => {
  const forgottenFile = async (chatId: string): Promise<string> => {
    const { attachmentIds } = await stockChat(app.db, app.simulator, chatId, { images: 1 });
    const [id = ""] = attachmentIds;
    await softDelete(app.db, id);
    await age(id);
    return id;
  };
  const age = (id: string): Promise<unknown> =>
    app.db.query("update attachments set cleanup_updated_at = now() - interval '901 seconds' where id = $1", [
      id,
    ]);

  test("get their event again, once", async () => {
    const chatId = await app.createChat();
    const id = await forgottenFile(chatId);
    const revived = await Promise.all([
      reviveForgottenCleanups(deps(), never),
      reviveForgottenCleanups(deps(), never),
    ]);
    expect(revived[0] + revived[1]).toBe(1);
    await quiet();
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ id, cleanupStatus: "done" }]);
    expect(app.simulator.held().files).toEqual([]);
  });

  test("of a deleted chat get one chat event together, and end with the receipt", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { documents: 3 });
    await app.db.query("update chats set deleted_at = now() where id = $1", [chatId]);
    await app.db.query(
      `update attachments set cleanup_status = 'pending', cleanup_updated_at = now() - interval '901 seconds'
       where chat_id = $1`,
      [chatId],
    );
    app.simulator.setState({ fail: { deletion: { times: 100, gate: "later" } } });
    expect(await reviveForgottenCleanups(deps(), never)).toBe(1);
    app.simulator.open("later");
    await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
    expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
  });

  test.each(["attachment_cleanup", "chat_cleanup"] as const)(
    "with an event waiting in %s are left to it",
    async (kind) => {
      const chatId = await app.createChat();
      const id = await forgottenFile(chatId);
      await app.db.query("update outbox_partition set paused = true");
      try {
        const orderKey = kind === "chat_cleanup" ? chatId : callers.ann.tenantId;
        await enqueueRaw(app.db, kind, orderKey, { attachment_id: id });
        expect(await reviveForgottenCleanups(deps(), never)).toBe(0);
        expect((await cleanupEvents(app.db)).waiting).toBe(1);
      } finally {
        await app.db.query("delete from outbox_message");
        await app.db.query("update outbox_partition set paused = false");
      }
    },
  );

  test("that were touched lately are left alone", async () => {
    const chatId = await app.createChat();
    const { attachmentIds } = await stockChat(app.db, app.simulator, chatId, { images: 1 });
    await softDelete(app.db, attachmentIds[0] ?? "");
    expect(await reviveForgottenCleanups(deps(), never)).toBe(0);
  });
});

describe("the reconciliation of providers (attachments.md §13)", () => {
  const reconcile = async (more: Partial<ReconcileDeps> = {}, graceSecs = -60) => {
    const providers = registryOf({
      sim: providerEntry(app.simulator.port, { storage_kind: "openai" }),
    });
    try {
      return await reconcileProviders(
        {
          db: app.db,
          accounts: () => providers.storage.accounts(),
          metrics: noMetrics,
          logger,
          graceSecs,
          dryRun: false,
          ...more,
        },
        never,
      );
    } finally {
      await providers.close();
    }
  };
  const fileOf = (chatId: string, id: string): Promise<string> =>
    uploadFile(app.simulator, `${chatId}_${id}.txt`);

  test("deletes files whose attachment is gone or is done with, and stores without a chat", async () => {
    const chatId = await app.createChat();
    const row = async (more: object): Promise<{ id: string; file: string }> => {
      const id = randomUUID();
      const file = await fileOf(chatId, id);
      await insertAttachment(app.db, chatId, { id, fileId: file, ...more });
      return { id, file };
    };
    const kept = [
      (await row({})).file,
      (await row({ status: "pending", fileId: null })).file,
      (await row({ deleted: true, cleanupStatus: "pending" })).file,
      (await row({ status: "failed", cleanupStatus: "pending" })).file,
    ];
    // Orphans.
    await fileOf(chatId, randomUUID());
    await row({ deleted: true, cleanupStatus: "done" });
    await row({ deleted: true, cleanupStatus: "failed" });
    await row({ status: "failed", cleanupStatus: "failed" });
    await row({ status: "failed", fileId: null });
    const foreign = [
      await uploadFile(app.simulator, "report.pdf"),
      await uploadFile(app.simulator, `${chatId}_notes.txt`),
    ];
    const { storeId } = await stockChat(app.db, app.simulator, chatId, { store: true });
    await createProviderStore(app.simulator);
    const named = await createProviderStore(app.simulator, "somebody's");
    expect(await reconcile()).toEqual({ files: 5, stores: 1 });
    const held = app.simulator.held();
    expect(held.files.map(({ id }) => id).toSorted()).toEqual([...kept, ...foreign].toSorted());
    expect(held.vector_stores.map(({ id }) => id).toSorted()).toEqual([storeId, named].toSorted());
    expect(await reconcile()).toEqual({ files: 0, stores: 0 });
  });

  test("leaves what is younger than the grace", async () => {
    await fileOf(randomUUID(), randomUUID());
    await createProviderStore(app.simulator);
    expect(await reconcile({}, 3_600)).toEqual({ files: 0, stores: 0 });
  });

  test("only tells in a dry run", async () => {
    await fileOf(randomUUID(), randomUUID());
    expect(await reconcile({ dryRun: true })).toEqual({ files: 1, stores: 0 });
    expect(app.simulator.held().files).toHaveLength(1);
  });

  test("deletes at most 500 per run", async () => {
    for (let n = 0; n < 505; n += 1) await fileOf(randomUUID(), randomUUID());
    expect(await reconcile()).toEqual({ files: 500, stores: 0 });
    expect(app.simulator.held().files).toHaveLength(5);
  }, 60_000);

  test("goes on past an object that cannot be deleted, and a provider that cannot be listed", async () => {
    for (let n = 0; n < 3; n += 1) await fileOf(randomUUID(), randomUUID());
    app.simulator.setState({ fail: { file_deletion: { times: 1, status: 403 } } });
    const down = registryOf({ down: providerEntry(1, { storage_kind: "openai" }) });
    const up = registryOf({ sim: providerEntry(app.simulator.port, { storage_kind: "openai" }) });
    const accounts = [...down.storage.accounts(), ...up.storage.accounts()];
    expect(await reconcile({ accounts: () => accounts })).toEqual({ files: 2, stores: 0 });
    await Promise.all([down.close(), up.close()]);
  });

  test("looks at the accounts of override tenants as well", () => {
    const providers = registryOf({
      sim: providerEntry(app.simulator.port, {
        storage_kind: "openai",
        tenant_overrides: { [callers.bob.tenantId]: { host: "localhost" } },
      }),
    });
    expect(providers.storage.accounts().map(({ tenantId }) => tenantId)).toEqual([
      null,
      asTenantId(callers.bob.tenantId),
    ]);
    return providers.close();
  });
});

test("the jobs and locks of ops.md §8; reconciliation is off unless asked for", () => {
  const providers = registryOf({ sim: providerEntry(1, { storage_kind: "openai" }) });
  const jobs = (change: Partial<Config>) =>
    cleanupJobs({
      db: app.db,
      storage: providers.storage,
      outbox: outbox.enqueuer,
      metrics: noMetrics,
      logger,
      config: { ...app.config, ...change },
    }).map(({ name, lockId, intervalMs }) => [name, lockId, intervalMs]);
  const { cleanup_worker: worker, reconcile } = app.config;
  expect(jobs({ cleanup_worker: { ...worker, reconcile_interval_secs: 300 } })).toEqual([
    ["cleanup_reconciler", 2, 300_000],
  ]);
  expect(
    jobs({ cleanup_worker: { ...worker, enabled: false }, reconcile: { ...reconcile, enabled: true } }),
  ).toEqual([["provider_reconciliation", 6, 86_400_000]]);
  return providers.close();
});

test("the backlog and the failed uploads are gauges", async () => {
  const chatId = await app.createChat();
  const { rows } = await app.db.query<{ failed: number }>(
    "select count(*)::int as failed from attachments where status = 'failed' and deleted_at is null",
  );
  const failed = (rows[0]?.failed ?? 0) + 2;
  await insertAttachment(app.db, chatId, { fileId: null, status: "failed" });
  await insertAttachment(app.db, chatId, { fileId: "f0", status: "failed", cleanupStatus: "done" });
  await insertAttachment(app.db, chatId, { fileId: null, status: "failed", deleted: true });
  await insertAttachment(app.db, chatId, { fileId: "f1", cleanupStatus: "failed", deleted: true });
  await insertAttachment(app.db, chatId, { fileId: "f2", cleanupStatus: "pending", deleted: true });
  const other = await startTestApp({
    config: cleanupConfig,
    database: app.database,
    simulator: app.simulator,
  });
  try {
    await eventually(async () => {
      const text = await (await fetch(`${other.opsBase}/metrics`)).text();
      return (
        /cleanup_backlog\{[^}]*state="failed"[^}]*\} 1\b/.test(text) &&
        /cleanup_backlog\{[^}]*state="pending"[^}]*\} 1\b/.test(text) &&
        new RegExp(`^\\w*attachments_failed(\\{.*\\})? ${failed}$`, "m").test(text)
      );
    });
  } finally {
    await other.close();
  }
});
