import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { parseArguments } from "../../src/commands/arguments.ts";
import { cleanupCommand } from "../../src/commands/cleanup.ts";
import { parseCleanupArguments } from "../../src/commands/cleanup-arguments.ts";
import { overlay } from "../../src/config/tree.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers, testConfigTree } from "../support/config.ts";
import {
  cleanupConfig,
  cleanupEvents,
  cleanupOf,
  insertAttachment,
  receiptsOf,
  stockChat,
  storeRows,
} from "./support.ts";

let app: TestApp;
let dir: string;
beforeAll(async () => {
  app = await startTestApp({ config: cleanupConfig });
  dir = mkdtempSync(join(tmpdir(), "mini-chat-cleanup-"));
  const tree = testConfigTree({ databaseUrl: app.database.url, simulatorPort: app.simulator.port });
  writeFileSync(join(dir, "mini-chat.json"), JSON.stringify(overlay(tree, cleanupConfig)));
});
afterAll(async () => {
  await app.close();
  rmSync(dir, { recursive: true, force: true });
});
afterEach(async () => {
  app.simulator.reset();
  await app.db.query("delete from chat_vector_stores");
  await app.db.query("delete from attachments");
  await app.db.query("delete from outbox_dead");
});

const run = async (...args: readonly string[]): Promise<{ code: number; out: string; log: string }> => {
  const parsed = parseArguments(["cleanup", ...args, "--config", join(dir, "mini-chat.json")]);
  if (parsed.kind !== "cleanup") throw new Error(JSON.stringify(parsed));
  let [out, log] = ["", ""];
  const code = await cleanupCommand(parsed.given, {
    answer: (text) => {
      out += text;
    },
    aside: (text) => {
      log += text;
    },
  });
  return { code, out, log };
};

const json = async (...args: readonly string[]): Promise<unknown> =>
  JSON.parse((await run(...args, "--json")).out);

/** A deleted chat with one file the provider refused to delete. */
const chatWithDebt = async (): Promise<string> => {
  const chatId = await app.createChat();
  await stockChat(app.db, app.simulator, chatId, { images: 2 });
  app.simulator.setState({ fail: { file_deletion: { times: 1, status: 400 } } });
  await app.call("DELETE", `/chats/${chatId}`);
  await eventually(async () => (await cleanupEvents(app.db)).waiting === 0);
  return chatId;
};

describe("mini-chat cleanup retry", () => {
  test("has a given up file tried again, under the name of who asked, and the receipt follows", async () => {
    const chatId = await chatWithDebt();
    expect(await receiptsOf(app.db, chatId)).toEqual([]);
    const ran = await run("retry", "--chat", chatId, "--actor", "olga");
    expect(ran).toMatchObject({ code: 0, out: "retrying 1 files and 0 vector stores\n" });
    expect(ran.log).toContain('"actor":"olga"');
    await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
    expect(await receiptsOf(app.db, chatId)).toMatchObject([{ files_deleted: 2 }]);
    expect(app.simulator.held().files).toEqual([]);
  });

  test("changes nothing in a dry run, nor for those the flags leave out", async () => {
    const chatId = await chatWithDebt();
    expect(await json("retry", "--all", "--dry-run")).toEqual({
      would_retry: { files: 1, vector_stores: 0 },
    });
    expect(await json("retry", "--tenant", callers.bob.tenantId)).toEqual({
      retried: { files: 0, vector_stores: 0 },
    });
    expect(
      (await cleanupOf(app.db, chatId)).filter(({ cleanupStatus }) => cleanupStatus === "failed"),
    ).toHaveLength(1);
  });

  test("only takes what is failed", async () => {
    const chatId = await app.createChat();
    const ids = [];
    for (const cleanupStatus of ["pending", "done", null] as const) {
      ids.push(await insertAttachment(app.db, chatId, { fileId: "f", cleanupStatus }));
    }
    expect(await json("retry", "--all")).toEqual({ retried: { files: 0, vector_stores: 0 } });
  });

  test("tries a vector store again that was given up", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { documents: 1 });
    app.simulator.setState({ fail: { store_deletion: { times: 1, status: 422 } } });
    await app.call("DELETE", `/chats/${chatId}`);
    await eventually(async () => (await cleanupEvents(app.db)).dead.length === 1);
    expect(await json("retry", "--chat", chatId)).toEqual({ retried: { files: 0, vector_stores: 1 } });
    await eventually(async () => (await storeRows(app.db, chatId)) === 0);
    await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
  });
});

describe("mini-chat cleanup status", () => {
  test("lists what was given up", async () => {
    const chatId = await chatWithDebt();
    const { out } = await run("status");
    expect(out).toContain("0 files pending; 1 given up");
    expect(out).toMatch(/FILE OF ATTACHMENT\s+CHAT\s+TENANT\s+PROVIDER\s+GIVEN UP AT\s+ATTEMPTS\s+ERROR/);
    expect(await json("status")).toMatchObject({
      files: { pending: 0, failed: 1 },
      failed_files: [
        {
          chat_id: chatId,
          tenant_id: callers.ann.tenantId,
          provider_id: "sim",
          attempts: 1,
          error: expect.any(String),
        },
      ],
      failed_vector_stores: [],
    });
  });

  test("shows no id of a provider", async () => {
    await chatWithDebt();
    expect((await run("status", "--json")).out).not.toMatch(/file-mock|vs_mock/);
  });
});

describe("the command line", () => {
  test.each([
    [["retry"], "needs a flag that says which"],
    [["retry", "--all", "--chat", callers.ann.tenantId], "--all makes no sense"],
    [["retry", "--chat", "x"], "--chat must be a UUID"],
    [["status", "--actor", "x"], "--actor"],
    [["status", "more"], "unexpected argument"],
    [["forget"], "needs status or retry"],
    [["retry", "--all", "--limit", "0"], "--limit"],
  ])("%j is refused", (argv, message) => {
    const parsed = parseCleanupArguments(argv);
    expect(parsed).toMatchObject({ kind: "wrong", message: expect.stringContaining(message) });
  });

  test("--help tells", () => {
    expect(parseArguments(["cleanup", "--help"])).toMatchObject({ kind: "help" });
    expect(parseArguments(["--config", "f.yaml", "cleanup", "status"])).toMatchObject({
      kind: "cleanup",
      given: { config: "f.yaml" },
    });
  });
});
