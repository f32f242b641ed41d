import type { Fault, Operation } from "@mini-chat/simulator";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { overlay, type Tree } from "../../src/config/tree.ts";
import {
  cleanupConfig,
  cleanupEvents,
  receiptsOf,
  statesOf,
  stockChat,
  storeRows,
} from "../cleanup/support.ts";
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
let chatId: string;
beforeEach(async () => {
  ground = await createGround();
});
afterEach(() => ground.clear());

const config = overlay(cleanupConfig, { outbox: { poll_interval_ms: 50 } }) as Tree;

/** A server with a chat of four documents, two images and a store. */
const startStocked = async (): Promise<ServerProcess> => {
  const server = await ground.start({ config });
  chatId = await newChat(server);
  await stockChat(ground.db, ground.simulator, chatId, { documents: 4, images: 2 });
  return server;
};

const removeChat = (server: ServerProcess) => callApi(`${server.base}/chats/${chatId}`, "DELETE");

const outboxIsEmpty = (): Promise<void> =>
  eventually(async () => (await ground.db.query("select from outbox_message")).rowCount === 0);

/** The next process ends what the killed one began: nothing is left at the provider, one receipt tells so. */
const expectErased = async (): Promise<void> => {
  await ageDeadProcesses(ground.db);
  await ground.start({ config });
  await eventually(async () => (await receiptsOf(ground.db, chatId)).length > 0);
  await outboxIsEmpty();
  expect(ground.simulator.held()).toEqual({ files: [], vector_stores: [] });
  expect(await statesOf(ground.db, chatId)).toEqual({ done: 6 });
  expect(await storeRows(ground.db, chatId)).toBe(0);
  expect(await cleanupEvents(ground.db)).toEqual({ waiting: 0, dead: [] });
  expect(await receiptsOf(ground.db, chatId)).toMatchObject([{ files_deleted: 6, stores_deleted: 1 }]);
};

describe("kill -9 in the cleanup of a chat", () => {
  const steps: readonly (readonly [string, Operation, Omit<Fault, "times">])[] = [
    ["before a file leaves its store", "removal", {}],
    ["after a file left its store, before its deletion", "removal", { after: true }],
    ["before a file is deleted", "file_deletion", {}],
    ["after a file was deleted, before that is written down", "file_deletion", { after: true }],
    ["before the store is deleted", "store_deletion", {}],
    ["after the store was deleted, before its row is", "store_deletion", { after: true }],
  ];

  test.each(steps)("%s", async (_step, operation, fault) => {
    const first = await startStocked();
    ground.simulator.setState({ fail: { [operation]: { times: 1, gate: "killed", ...fault } } });
    await removeChat(first);
    await ground.simulator.arrived("killed");
    await first.kill();
    ground.simulator.open("killed");
    await expectErased();
  });

  test("between the deletion of the chat and its first step", async () => {
    const first = await startStocked();
    const release = await holdLock(
      ground.databaseUrl,
      "select from outbox_partition where queue = 'mini-chat.chat_cleanup' for update",
    );
    await removeChat(first);
    await first.kill();
    await release();
    await expectErased();
  });

  test("in the transaction of the receipt", async () => {
    const first = await startStocked();
    ground.simulator.setState({ fail: { store_deletion: { times: 1, gate: "last" } } });
    await removeChat(first);
    await ground.simulator.arrived("last");
    const release = await holdLock(ground.databaseUrl, "select from chats for update");
    ground.simulator.open("last");
    await waitingForLocks(ground.db);
    await first.kill();
    await release();
    expect(await storeRows(ground.db, chatId)).toBe(1);
    await expectErased();
  });

  test("after the receipt was committed, before the acknowledgement", async () => {
    const first = await startStocked();
    ground.simulator.setState({ fail: { store_deletion: { times: 1, gate: "last" } } });
    await removeChat(first);
    await ground.simulator.arrived("last");
    const release = await holdLock(
      ground.databaseUrl,
      "select from outbox_partition where queue = 'mini-chat.chat_cleanup' for update",
    );
    ground.simulator.open("last");
    const acknowledging = await waitingForLocks(ground.db);
    expect(await storeRows(ground.db, chatId)).toBe(0);
    await first.kill();
    // A statement that waits for a lock does not notice that its client is gone: the acknowledgement would stand.
    await endSession(ground.db, acknowledging);
    await release();
    expect((await cleanupEvents(ground.db)).waiting).toBe(1);
    await expectErased();
  });
});

test("two processes that clean up at once leave nothing and write one receipt", async () => {
  const first = await startStocked();
  await ground.start({ config });
  await removeChat(first);
  await eventually(async () => (await receiptsOf(ground.db, chatId)).length > 0);
  await outboxIsEmpty();
  expect(ground.simulator.held()).toEqual({ files: [], vector_stores: [] });
  expect(await receiptsOf(ground.db, chatId)).toHaveLength(1);
});
