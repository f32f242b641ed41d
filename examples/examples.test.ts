import { execFile, spawnSync } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../packages/server/test/support/app.ts";
import { callers } from "../packages/server/test/support/config.ts";

const here = dirname(fileURLToPath(import.meta.url));
const run = promisify(execFile);

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.close());

/** Runs an example as its reader would; rejects with its output when it fails. */
const play = async (command: string, file: string): Promise<string> => {
  const base = app.base.replace(/\/v1$/, "");
  const { stdout, stderr } = await run(command, [`${here}/${file}`, base, callers.ann.token], {
    timeout: 20_000,
    env: { PATH: process.env["PATH"] ?? "" },
  });
  expect(stderr).toBe("");
  return stdout;
};

const chatsLeft = async (): Promise<number> =>
  (await app.db.query("select from chats where deleted_at is null")).rowCount;

test("conversation.sh", async () => {
  const curl = spawnSync("curl", ["--version"]);
  expect(curl.error, "examples/conversation.sh needs curl; install it to run the tests").toBeUndefined();
  const output = await play("bash", "conversation.sh");
  const parts = new Map(
    output.split(/^# /m).map((part) => [part.split("\n", 1)[0], part.slice(part.indexOf("\n") + 1)]),
  );
  const part = (title: RegExp): string => [...parts].find(([name]) => title.test(name ?? ""))?.[1] ?? "";
  expect(JSON.parse(part(/models/)).items.map((model: { model_id: string }) => model.model_id)).toEqual([
    "standard",
    "premium",
  ]);
  expect(part(/new chat/)).toMatch(/^[0-9a-f-]{36}\n$/);
  const answer = part(/a question/);
  expect(answer.match(/^event: (.*)$/gm)).toEqual([
    "event: stream_started",
    "event: delta",
    "event: delta",
    "event: done",
  ]);
  expect(JSON.parse(part(/turn ended/))).toMatchObject({ state: "done" });
  const replay = part(/again/);
  expect(replay.match(/^event: (.*)$/gm)).toEqual(["event: stream_started", "event: delta", "event: done"]);
  expect(replay).toContain('"is_new_turn":false');
  expect(replay).toContain("Hello from the simulator.");
  expect(JSON.parse(part(/conversation so far/)).items).toEqual([
    { role: "assistant", content: "Hello from the simulator." },
    { role: "user", content: "What makes a good release note?" },
  ]);
  for (const title of [/another answer/, /another question/]) {
    expect(part(title)).toContain('"is_new_turn":true');
    expect(part(title)).toContain("event: done");
  }
  expect(JSON.parse(part(/I like/))).toMatchObject({ reaction: "like" });
  expect(JSON.parse(part(/are gone/)).items).toEqual([
    { role: "user", content: "What makes a bad one?", my_reaction: null },
    { role: "assistant", content: "Hello from the simulator.", my_reaction: "like" },
  ]);
  expect(part(/take the turn back/)).toBe("204\n");
  expect(JSON.parse(part(/quota/)).tiers).toHaveLength(2);
  expect(part(/delete/)).toBe("204\n");
  expect(await chatsLeft()).toBe(0);
});

test("conversation.ts", async () => {
  const output = await play(process.execPath, "conversation.ts");
  expect(output).toBe(
    [
      "> What makes a good release note?",
      "Hello from the simulator.",
      '[standard, {"input_tokens":50,"output_tokens":12}]',
      "> Say it in one sentence.",
      "Hello from the simulator.",
      '[standard, {"input_tokens":150,"output_tokens":12}]',
      "4 messages stored",
      "",
    ].join("\n"),
  );
  expect(await chatsLeft()).toBe(0);
});

test("an example that is refused says why and fails", async () => {
  const base = app.base.replace(/\/v1$/, "");
  const wrong = run(process.execPath, [`${here}/conversation.ts`, base, "wrong"]);
  await expect(wrong).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("unauthorized") });
  const script = run("bash", [`${here}/conversation.sh`, base, "wrong"]);
  await expect(script).rejects.toMatchObject({ code: 22, stderr: expect.stringContaining("401") });
});
