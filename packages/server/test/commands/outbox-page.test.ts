import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { callApi, eventually } from "../support/app.ts";
import { type Caller, callers, testConfigTree } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { openStream } from "../support/stream.ts";
import { readPage, type Step, stepsOf } from "./page.ts";
import { main, type Ran } from "./support.ts";

/** Follows docs/outbox-operations.md word by word, in the order of the page, against a real server. */

const page = readPage("outbox-operations.md");

/** Ids and times differ each time, and so does the padding beside them. */
const comparable = (text: string): string[] =>
  text
    .trimEnd()
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replace(/\b(?!aaaaaaaa|bbbbbbbb)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "UUID")
    .replace(/\b\d+[smh](?: \d+[smh])?\b/g, "AGE")
    .split("\n")
    .map((line) => line.trim().replace(/\s+/g, " "));

let database: TestDatabase;
let simulator: Simulator;
let receiver: Server;
let status = 400;
const delivered: string[] = [];
let config: Tree;
let server: ServerProcess | undefined;
const dir = mkdtempSync(join(tmpdir(), "mini-chat-page-"));
const over = new AbortController();

const startServer = async (change: Tree = {}): Promise<ServerProcess> => {
  server = await startServerProcess({
    databaseUrl: database.url,
    simulatorPort: simulator.port,
    config: overlay(config, change) as Tree,
    signal: over.signal,
  });
  return server;
};

beforeAll(async () => {
  [database, simulator] = await Promise.all([createTestDatabase(), startSimulator()]);
  receiver = createServer((request, response) => {
    request.resume();
    if (status === 200) delivered.push(String(request.headers["x-message-id"]));
    response.writeHead(status).end();
  }).listen(0, "127.0.0.1");
  await once(receiver, "listening");
  const { port } = receiver.address() as AddressInfo;
  config = {
    plugins: { usage: { type: "http", url: `http://127.0.0.1:${port}/usage` } },
    // The number of the page, and a back-off in which nothing is tried again while it is read.
    outbox: { num_partitions: 16, retry_base_ms: 60_000 },
    instance_lease_secs: 15,
  };
  const base = testConfigTree({ databaseUrl: database.url, simulatorPort: simulator.port });
  writeFileSync(join(dir, "mini-chat.yaml"), stringify(overlay(base, config)));
  mkdirSync(join(dir, "bin"));
  writeFileSync(join(dir, "bin", "mini-chat"), `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`, {
    mode: 0o755,
  });
});
afterAll(async () => {
  over.abort();
  receiver.close();
  receiver.closeAllConnections();
  await simulator.close();
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
});

const shell = async (commands: string): Promise<Ran> => {
  const child = spawn("bash", ["-euo", "pipefail", "-c", commands], {
    cwd: dir,
    env: {
      PATH: `${join(dir, "bin")}:${process.env.PATH}`,
      OPS: server?.opsBase ?? "",
      ADMIN_TOKEN: "admin-token-of-tests",
    },
    stdio: ["ignore", "pipe", "pipe"],
    signal: over.signal,
  });
  child.on("error", () => {});
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
};

const follow = async (step: Step | undefined): Promise<Ran> => {
  if (step === undefined) throw new Error("the section has no such block");
  const ran = await shell(step.commands);
  expect(ran.code, `${step.commands}${ran.stderr}`).toBe(0);
  if (step.output !== null) expect(comparable(ran.stdout)).toEqual(comparable(step.output));
  return ran;
};

const followAll = async (heading: string): Promise<void> => {
  const steps = stepsOf(page, heading);
  expect(steps.length).toBeGreaterThan(0);
  for (const step of steps) await follow(step);
};

/** A turn from its question to its end; its usage event is in the outbox then. */
const turn = async (caller: Caller): Promise<void> => {
  const base = server?.base ?? "";
  const { body } = await callApi(`${base}/chats`, "POST", { caller, body: {} });
  const stream = await openStream(`${base}/chats/${body.id}/messages:stream`, {
    headers: { authorization: `Bearer ${caller.token}` },
    body: { content: "PING" },
  });
  await stream.rest();
};

const count = async (query: string): Promise<number> =>
  Number((await database.db.query<{ n: bigint }>(`select count(*) as n from ${query}`)).rows[0]?.n);

test("the page does as it says", async () => {
  await startServer();
  for (const [at, caller] of [callers.ann, callers.ann, callers.bob].entries()) {
    await turn(caller);
    await eventually(async () => (await count("outbox_dead")) === at + 1);
  }
  await eventually(async () => (await count("outbox_partition where lease_token is not null")) === 0);
  await followAll("See what is wrong");
  await followAll("Find a dead letter");
  const [hidden, shown] = stepsOf(page, "Read it");
  expect((await follow(hidden)).stdout).not.toContain("actual_credits_micro");
  expect((await follow(shown)).stdout).toContain('"actual_credits_micro"');

  status = 200;
  await followAll("Requeue it");
  await eventually(() => delivered.length === 1);
  await followAll("Discard it");
  await followAll("Over HTTP");
  await eventually(() => delivered.length === 2);

  status = 503;
  await turn(callers.ann);
  await shell("mini-chat outbox purge --all-terminal --config mini-chat.yaml");
  await eventually(
    async () =>
      (await count("outbox_parked where until > now() + interval '10 s' and attempts = 1")) === 1 &&
      (await count("outbox_partition where lease_token is not null")) === 0,
  );
  await followAll("A partition that does not move");

  await turn(callers.ann);
  await followAll("Give up an event that waits");
  // The next of the tenant is tried, and refused.
  await eventually(
    async () =>
      (await count(
        "outbox_message m join outbox_parked k using (partition_id, order_key) where k.attempts = 1",
      )) === 1 && (await count("outbox_partition where lease_token is not null")) === 0,
  );
  expect(await count("outbox_dead where rejected_by = 'ann' and status = 'pending'")).toBe(1);

  const [drain, repartition] = stepsOf(page, "Change the number of partitions");
  const refused = await shell(repartition?.commands ?? "");
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("stop every process first")]);
  await server?.stop();
  expect((await shell(repartition?.commands ?? "")).stderr).toContain("is not drained: 1 messages");
  status = 200;
  await database.db.query("update outbox_parked set until = now()");
  await follow(drain);
  expect(delivered).toHaveLength(3);
  await follow(repartition);
  await expect(startServer()).rejects.toThrow(
    /ended with 3:.*stored with 32 partitions, configured with 16/s,
  );
  await startServer({ outbox: { num_partitions: 32 } });
  await turn(callers.bob);
  await eventually(() => delivered.length === 4);
  await server?.stop();
}, 300_000);
