import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startPooler } from "../support/pooler.ts";
import { startServerProcess } from "../support/process.ts";

/** Start-ups that must fail: the exit code tells an operator where to look (ops.md §1, §3). */

let database: TestDatabase;
let empty: TestDatabase;
/** What the one start says that is given up only after its time; it runs beside the others. */
let unreachable: Promise<string>;
const began = performance.now();
const over = new AbortController();
beforeAll(async () => {
  [database, empty] = await Promise.all([createTestDatabase(), createTestDatabase({ empty: true })]);
  const { server, port } = await takePort();
  await new Promise((resolve) => server.close(resolve));
  unreachable = start({}, `postgresql://nobody@127.0.0.1:${port}/none`).then(
    () => "started",
    (error: Error) => error.message,
  );
});
afterAll(async () => {
  over.abort();
  await Promise.all([database.drop(), empty.drop()]);
});

const start = (config: Tree, databaseUrl = database.url): Promise<unknown> =>
  startServerProcess({ databaseUrl, simulatorPort: 1, config, signal: over.signal });

const withDatabase = (name: string): string => {
  const url = new URL(database.url);
  url.pathname = `/${name}`;
  return url.href;
};

const takePort = async (): Promise<{ server: Server; port: number }> => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
};

describe("2: the configuration is wrong, and every problem is named", () => {
  test.each<[string, Tree, readonly string[]]>([
    [
      "keys out of range or unknown",
      { orphan_watchdog: { timeout_secs: 89 }, instance_lease_secs: 14, serverr: {} },
      ["orphan_watchdog.timeout_secs", "instance_lease_secs", "serverr"],
    ],
    [
      "a catalog entry that makes no sense",
      { plugins: { model_policy: { static: { model_catalog: [{ id: "" }] } } } },
      ["plugins.model_policy.static.model_catalog"],
    ],
    ["an audit plugin nobody registered", { plugins: { audit: { type: "nobody" } } }, ["plugins.audit.type"]],
    [
      "a sink in a file that is not there",
      { plugins: { usage: { type: "module", module: "/nowhere/sink.mjs" } } },
      ["plugins.usage.module", "/nowhere/sink.mjs"],
    ],
  ])("%s", async (_, config, keys) => {
    const started = start(config);
    await expect(started).rejects.toThrow(/ended with 2:/);
    for (const key of keys) await expect(started).rejects.toThrow(key);
  });
});

describe("3: the database cannot be used", () => {
  test("there is no such database, which waiting does not change", async () => {
    await expect(start({}, withDatabase("nowhere"))).rejects.toThrow(/ended with 3:/);
  });

  test("its schema is behind and is not to be migrated", async () => {
    await expect(start({ database: { migrations: "check" } }, empty.url)).rejects.toThrow(/ended with 3:/);
  });

  test.each(["off", "check", "auto"])(
    "a transaction-mode pooler is in between, migrations %s",
    async (migrations) => {
      const pooler = await startPooler(database.url);
      try {
        const started = start({ database: { migrations } }, pooler.url);
        await expect(started).rejects.toThrow(/ended with 3:.*database\.direct_url/s);
      } finally {
        await pooler.close();
      }
    },
  );

  test("only its direct_url leads nowhere", async () => {
    const { server, port } = await takePort();
    await new Promise((resolve) => server.close(resolve));
    const started = start({ database: { direct_url: `postgresql://nobody@localhost:${port}/none` } });
    await expect(started).rejects.toThrow(/ended with 3:.*ECONNREFUSED/s);
  });

  test.each<[string, string]>([
    ["it is to be reached with TLS and has none", "sslmode=require"],
    ["the certificate it is to be known by does not exist", "sslmode=verify-full&sslrootcert=/nowhere.pem"],
  ])("%s", async (_, query) => {
    const url = `${database.url}${database.url.includes("?") ? "&" : "?"}${query}`;
    await expect(start({}, url)).rejects.toThrow(/ended with 3:/);
  });

  test.each(["/dev/null/data", "/dev/null"])("its directory cannot be made: %s", async (directory) => {
    const started = start({ database: { mode: "embedded", data_dir: directory } });
    await expect(started).rejects.toThrow(/ended with 3:.*database\.data_dir/s);
  });
});

test("1: the port is taken, and nothing stays behind", async () => {
  const { server, port } = await takePort();
  try {
    const started = start({ server: { bind_address: `127.0.0.1:${port}` } });
    await expect(started).rejects.toThrow(/ended with 1:.*EADDRINUSE/s);
  } finally {
    server.close();
  }
  expect((await database.db.query("select from app_instances")).rowCount).toBe(0);
});

test("3: nobody listens there, for the 30 s it may take to come up", async () => {
  expect(await unreachable).toMatch(/ended with 3:.*ECONNREFUSED/s);
  expect(performance.now() - began).toBeGreaterThan(20_000);
}, 45_000);
