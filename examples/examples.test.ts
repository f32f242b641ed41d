import { execFile, spawn, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../packages/server/test/support/app.ts";
import { callers, modelEntry } from "../packages/server/test/support/config.ts";
import { createTestDatabase } from "../packages/server/test/support/database.ts";

const here = dirname(fileURLToPath(import.meta.url));
const run = promisify(execFile);

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app.close());

/** Runs an example as its reader would; rejects with its output when it fails. */
const play = async (command: string, file: string, timeout = 20_000): Promise<string> => {
  const base = app.base.replace(/\/v1$/, "");
  const { stdout, stderr } = await run(command, [`${here}/${file}`, base, callers.ann.token], {
    timeout,
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

test("files.sh", async () => {
  const files = await startTestApp({
    config: {
      providers: { sim: { storage_kind: "openai" } },
      outbox: { num_partitions: 4, poll_interval_ms: 50 },
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", {
                multimodal_capabilities: ["VISION_INPUT"],
                preference: { is_default: true, sort_order: 0 },
              }),
            ],
          },
        },
      },
    },
  });
  try {
    const base = files.base.replace(/\/v1$/, "");
    const simulator = `http://127.0.0.1:${files.simulator.port}`;
    const { stdout, stderr } = await run("bash", [`${here}/files.sh`, base, callers.ann.token, simulator], {
      timeout: 30_000,
      env: { PATH: process.env["PATH"] ?? "" },
    });
    expect(stderr).toBe("");
    const parts = stdout.split(/^# .*\n/m).slice(1);
    const [document, cited, picture, sheet, locked, listed, deleted, left] = parts;
    expect(parts).toHaveLength(8);
    expect(JSON.parse(document ?? "")).toMatchObject({ filename: "lease.pdf", status: "ready" });
    expect(cited).toContain("31 March 2031");
    const citations = /^event: citations\ndata: (.*)$/m.exec(cited ?? "")?.[1] ?? "{}";
    expect(JSON.parse(citations).items).toMatchObject([
      { source: "file", title: "lease.pdf", attachment_id: JSON.parse(document ?? "").id },
    ]);
    expect(picture).toContain('"kind":"image"');
    expect(picture).toContain("event: done");
    expect(sheet).toContain('"name":"code_interpreter"');
    expect(locked).toBe("409\n");
    const { items } = JSON.parse(listed ?? "");
    expect(items.map((item: { attachments: unknown[] }) => item.attachments.length)).toEqual([
      0, 0, 1, 0, 0, 0,
    ]);
    expect(deleted).toBe("204\n");
    expect(JSON.parse(left ?? "")).toEqual({ files: [], vector_stores: [] });
  } finally {
    await files.close();
  }
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

test("client-chat.ts", async () => {
  const output = await play(process.execPath, "client-chat.ts");
  expect(output).toBe(
    [
      "> What makes a good release note?",
      "Hello from the simulator.",
      "[standard, 12 tokens]",
      "> Say it in one sentence.",
      "Hello from the simulator.",
      "[standard, 12 tokens]",
      "> again, please",
      "Hello from the simulator.",
      "[standard, 12 tokens]",
      "user: What makes a good release note?",
      "assistant: Hello from the simulator.",
      "user: Say it in one sentence.",
      "assistant: Hello from the simulator.",
      "",
    ].join("\n"),
  );
  expect(await chatsLeft()).toBe(0);
});

test("client-recover.ts", async () => {
  for (let i = 0; i < 2; i += 1) {
    app.simulator.enqueue({ events: [{ text: "Once upon" }, { text: " a time", delay_ms: 400 }] });
  }
  expect(await play(process.execPath, "client-recover.ts")).toBe(
    [
      "continue: interrupted",
      "continue: resumed",
      "continue: completed, resumed: Once upon a time",
      "cancel: interrupted",
      "cancel: cancelled, stored",
      "",
    ].join("\n"),
  );
  expect(await chatsLeft()).toBe(0);
});

test("long-conversation.ts", { timeout: 130_000 }, async () => {
  // The last question would take 6,150 input tokens if all of the conversation were sent.
  const output = await play(process.execPath, "long-conversation.ts", 120_000);
  const tokens = Number(/the last question took (\d+) input tokens/.exec(output)?.[1]);
  expect(tokens).toBeLessThan(1_500);
  expect(output.replace(`${tokens} input`, "few input")).toBe(
    [
      "",
      "# Send a question",
      "Hello from the simulator.",
      "",
      "# Put it in other words",
      "Hello from the simulator.",
      "",
      "# Ask for another answer to the same question",
      "Hello from the simulator.",
      "",
      "# Say that it was a good one",
      "user: Where should we go first, by train?",
      "assistant: Hello from the simulator. [like]",
      "",
      "# Close the laptop in the middle of an answer",
      "read so far: Once ",
      "",
      "# Open it again, or another device",
      "the whole answer: Once upon a time there was text.",
      "",
      "# Go on for sixty turns",
      "124 messages are listed",
      "a summary stood in for the oldest of them",
      "the last question took few input tokens",
      "",
      "# Find something in it",
      "message: Where should we go first, by train?",
      "",
      "# Take a copy along",
      "# A trip to the coast",
      "all of it",
      "",
      "# Delete it",
      "chat_not_found",
      "",
    ].join("\n"),
  );
  expect(await chatsLeft()).toBe(0);
});

test("client-upload.ts", async () => {
  const lines = (await play(process.execPath, "client-upload.ts")).split("\n");
  expect(lines.slice(-4)).toEqual([
    "100 %",
    "client-upload.ts.txt: ready",
    "completed: Hello from the simulator.",
    "",
  ]);
  expect(await chatsLeft()).toBe(0);
});

test("an example that is refused says why and fails", async () => {
  const base = app.base.replace(/\/v1$/, "");
  const wrong = run(process.execPath, [`${here}/conversation.ts`, base, "wrong"]);
  await expect(wrong).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("unauthorized") });
  const client = run(process.execPath, [`${here}/client-chat.ts`, base, "wrong"]);
  await expect(client).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("unauthorized") });
  const script = run("bash", [`${here}/conversation.sh`, base, "wrong"]);
  await expect(script).rejects.toMatchObject({ code: 22, stderr: expect.stringContaining("401") });
});

const secret = "a-shared-secret-of-length";

/** An example that serves: its lines of output, and the port it told. */
const startReceiver = async (file: string, env: Record<string, string> = {}) => {
  const child = spawn(process.execPath, [`${here}/${file}`, "0"], {
    env: { PATH: process.env["PATH"] ?? "", MINI_CHAT_SECRET: secret, ...env },
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (): Promise<string> => (await lines.next()).value ?? "";
  const port = Number(/^listening on (\d+)$/.exec(await line())?.[1]);
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  return { port, line, kill };
};

/** Stands between mini-chat and a receiver; `answered` decides what becomes of each answer. */
const startBetween = async (
  port: () => number,
  answered: (bodies: readonly string[]) => Promise<boolean>,
) => {
  const bodies: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const headers = Object.entries(request.headersDistinct).map(([name, values]) => [name, `${values}`]);
    const answer = await fetch(`http://127.0.0.1:${port()}/usage`, {
      method: "POST",
      headers: Object.fromEntries(
        headers.filter(([name]) => !/^(host|connection|content-length|transfer-encoding)$/.test(`${name}`)),
      ),
      body,
    });
    bodies.push(body.toString());
    if (await answered(bodies)) response.writeHead(answer.status).end();
    else request.socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}/usage`;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { url, bodies, close };
};

/** A conversation of two turns with a server of its own that publishes usage like this. */
const conversationWith = async (usage: object): Promise<TestApp> => {
  const billed = await startTestApp({
    config: { plugins: { usage: { ...usage } }, outbox: { retry_base_ms: 10 } },
  });
  const base = billed.base.replace(/\/v1$/, "");
  await run(process.execPath, [`${here}/conversation.ts`, base, callers.ann.token]);
  return billed;
};

test("usage-consumer.ts takes each event once, from a real turn, after a first answer was lost", async () => {
  const consumer = await startReceiver("usage-consumer.ts");
  const { line, port } = consumer;
  const between = await startBetween(
    () => port,
    async ({ length }) => length > 1,
  );
  const billed = await conversationWith({ type: "http", url: between.url, secret });
  try {
    const first = /: \+(\d+) = (\d+)$/.exec(await line());
    expect(first?.[1]).toBe(first?.[2]);
    expect(await line()).toMatch(/: seen before$/);
    const second = /: \+(\d+) = (\d+)$/.exec(await line());
    expect(Number(second?.[2])).toBe(Number(first?.[1]) + Number(second?.[1]));
    await fetch(`http://127.0.0.1:${port}/usage`, { method: "POST", body: "{}" });
    expect(await line()).toBe("refused: missing");
  } finally {
    await billed.close();
    await between.close();
    await consumer.kill();
  }
});

test("usage-ledger.ts counts each event exactly once, though it is killed before it answers", async () => {
  const database = await createTestDatabase({ empty: true });
  const env = { DATABASE_URL: database.url };
  let ledger = await startReceiver("usage-ledger.ts", env);
  const between = await startBetween(
    () => ledger.port,
    async ({ length }) => {
      if (length > 2) return true;
      await ledger.kill();
      ledger = await startReceiver("usage-ledger.ts", env);
      return false;
    },
  );
  const billed = await conversationWith({ type: "http", url: between.url, secret });
  try {
    await expect.poll(() => between.bodies.length, { timeout: 20_000 }).toBeGreaterThanOrEqual(4);
    const credits = new Map(
      between.bodies.map((body) => {
        const { dedupe_key: key, actual_credits_micro: micro } = JSON.parse(body);
        return [key, Number(micro)];
      }),
    );
    expect(credits.size).toBe(2);
    const sum = [...credits.values()].reduce((one, other) => one + other);
    const { rows } = await database.db.query("select spent_micro::text as spent from balances");
    expect(rows).toEqual([{ spent: `${sum}` }]);
  } finally {
    await billed.close();
    await between.close();
    await ledger.kill();
    await database.drop();
  }
});

test("csv-sink.mjs writes a line per turn", async () => {
  const directory = await mkdtemp(join(tmpdir(), "csv-sink-"));
  const path = join(directory, "usage.csv");
  const written = await conversationWith({
    type: "module",
    module: `${here}/csv-sink.mjs`,
    options: { path },
  });
  try {
    await expect
      .poll(async () => (await readFile(path, "utf8")).trimEnd().split("\n"), { timeout: 10_000 })
      .toEqual(
        [1, 2].map(() => expect.stringMatching(/^[\d:TZ.-]+,[0-9a-f-]{36},"standard",\d+,[0-9a-f/]+$/)),
      );
  } finally {
    await written.close();
    await rm(directory, { recursive: true });
  }
});
