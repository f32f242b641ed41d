import type { Operation } from "@mini-chat/simulator";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { reconcileProviders } from "../../src/attachments/reconcile.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { onlyRow, type Sent, storageConfig, textFile, upload } from "../attachments/support.ts";
import { cleanupConfig, cleanupEvents, receiptsOf, storeRows } from "../cleanup/support.ts";
import { entry, registryOf } from "../providers/support.ts";
import { callApi, eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import {
  ageDeadProcesses,
  createGround,
  endSession,
  type Ground,
  holdLock,
  newChat,
  waitingForLocks,
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

const image: Sent = { filename: "a.gif", type: "image/gif", bytes: "GIF89a" };

const begin = (file: Sent): Promise<unknown> => upload(server, chatId, file).catch(() => "gone");

/** A process whose stale rule and cleanup are quick. */
const startNext = (): Promise<ServerProcess> =>
  ground.start({
    config: overlay(cleanupConfig, {
      cleanup_worker: { reconcile_interval_secs: 1, stale_in_progress_timeout_secs: 2 },
    }) as Tree,
  });

const reconcile = async (): Promise<void> => {
  const providers = registryOf({ sim: entry(ground.simulator.port, { storage_kind: "openai" }) });
  await reconcileProviders(
    {
      db: ground.db,
      accounts: () => providers.storage.accounts(),
      metrics: noMetrics,
      logger: noLogger,
      graceSecs: -60,
      dryRun: false,
    },
    new AbortController().signal,
  ).finally(() => providers.close());
};

/**
 * The next process fails the upload and removes its file; with what reconciliation finds and after the chat's
 * deletion the provider holds nothing, the receipt says so, and nobody was charged.
 */
const expectNothingStays = async (): Promise<void> => {
  await ageDeadProcesses(ground.db);
  const next = await startNext();
  await eventually(async () => (await onlyRow(ground.db, chatId)).status === "failed");
  const row = await onlyRow(ground.db, chatId);
  expect(row.error_code).toBe("upload_interrupted");
  await eventually(async () => (await onlyRow(ground.db, chatId)).cleanup_status !== "pending");
  expect((await onlyRow(ground.db, chatId)).cleanup_status).toBe(
    row.provider_file_id === null ? null : "done",
  );
  await reconcile();
  expect(ground.simulator.held().files).toEqual([]);
  expect((await callApi(`${next.base}/chats/${chatId}`, "DELETE")).status).toBe(204);
  await eventually(async () => (await receiptsOf(ground.db, chatId)).length > 0);
  expect(ground.simulator.held()).toEqual({ files: [], vector_stores: [] });
  expect(await storeRows(ground.db, chatId)).toBe(0);
  await eventually(async () => (await cleanupEvents(ground.db)).waiting === 0);
  expect((await cleanupEvents(ground.db)).dead).toEqual([]);
  const charged = await ground.db.query("select from quota_usage where image_upload_bytes > 0");
  expect(charged.rowCount).toBe(0);
};

describe("kill -9 in an upload: nothing stays at the provider, nothing is stuck (attachments.md §17)", () => {
  const steps: readonly (readonly [string, Operation, boolean])[] = [
    ["before the provider has the file", "upload", false],
    ["after the provider has the file, its id unknown", "upload", true],
    ["before the store is made", "store_creation", false],
    ["after the store is made, its id unknown", "store_creation", true],
    ["before the file is in the store", "indexing", false],
    ["after the file is in the store", "indexing", true],
  ];

  test.each(steps)("%s", async (_step, operation, after) => {
    ground.simulator.setState({ fail: { [operation]: { times: 1, gate: "killed", after } } });
    const sent = begin(textFile);
    await ground.simulator.arrived("killed");
    await server.kill();
    ground.simulator.open("killed");
    expect(await sent).toBe("gone");
    await expectNothingStays();
  });

  test("before an image is ready and counted", async () => {
    ground.simulator.setState({ fail: { upload: { times: 1, gate: "killed" } } });
    const sent = begin(image);
    await ground.simulator.arrived("killed");
    const release = await holdLock(ground.databaseUrl, "lock table quota_usage in share mode");
    ground.simulator.open("killed");
    const counting = await waitingForLocks(ground.db);
    await server.kill();
    await endSession(ground.db, counting);
    await release();
    expect(await sent).toBe("gone");
    await expectNothingStays();
  });

  test("in the delete of a file, before its cleanup has begun", async () => {
    const { status, body } = await upload(server, chatId, image);
    expect(status).toBe(201);
    const path = `${server.base}/chats/${chatId}/attachments/${body.id}`;
    expect((await callApi(path, "DELETE")).status).toBe(204);
    await server.kill();
    await ageDeadProcesses(ground.db);
    await startNext();
    await eventually(async () => (await onlyRow(ground.db, chatId)).cleanup_status === "done");
    expect(ground.simulator.held().files).toEqual([]);
  });
});
