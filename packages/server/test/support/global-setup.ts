import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { startEmbedded } from "../../src/db/embedded.ts";
import { lockDirectory } from "../../src/db/embedded-lock.ts";
import { stopServer } from "../../src/db/embedded-server.ts";
import { migrate } from "../../src/db/migrate.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Superuser connection to the run's server, any database but the template. */
    readonly databaseAdminUrl: string;
    /** Database with all migrations, cloned per test file. */
    readonly databaseTemplate: string;
  }
}

/**
 * One PostgreSQL for the whole run: an embedded one, or the server `MINI_CHAT_TEST_DATABASE_URL` names
 * (superuser; used to run the tests on other versions).
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const external = process.env.MINI_CHAT_TEST_DATABASE_URL;
  const server = external === undefined ? await startDisposable() : { url: external, stop: async () => {} };
  const template = `mini_chat_template_${process.pid}`;
  try {
    await administer(server.url, `create database ${template}`);
    await migrate({ url: withDatabase(server.url, template), mode: "auto" });
  } catch (error) {
    await server.stop();
    throw error;
  }
  project.provide("databaseAdminUrl", server.url);
  project.provide("databaseTemplate", template);
  return async () => {
    if (external !== undefined)
      await administer(server.url, `drop database if exists ${template} with (force)`);
    await server.stop();
  };
}

const prefix = "mini-chat-test-";

/** Stops the servers of runs that were killed: a server outlives its process on purpose. */
const removeLeftovers = async (): Promise<void> => {
  for (const name of await readdir(tmpdir())) {
    const dir = join(tmpdir(), name);
    const pidFile = join(dir, "cluster", "postmaster.pid");
    if (!name.startsWith(prefix) || !existsSync(pidFile)) continue;
    try {
      const lock = lockDirectory(join(dir, "lock"));
      await stopServer(Number.parseInt(readFileSync(pidFile, "utf8"), 10), join(dir, "cluster"));
      await rm(dir, { recursive: true, force: true });
      lock.release();
    } catch {
      // In use by a run under way, or another user's.
    }
  }
};

const startDisposable = async (): Promise<{ url: string; stop: () => Promise<void> }> => {
  await removeLeftovers();
  const dir = await mkdtemp(join(tmpdir(), prefix));
  // As root the server runs as another account, which has to pass.
  await chmod(dir, 0o755);
  const server = await startEmbedded({
    dataDir: dir,
    maxConnections: 290,
    // Nothing here has to survive the machine.
    settings: { fsync: "off", full_page_writes: "off", synchronous_commit: "off", autovacuum_naptime: "10s" },
  });
  return {
    url: server.adminUrl,
    stop: async () => {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
};

const withDatabase = (url: string, name: string): string => {
  const parsed = new URL(url);
  parsed.pathname = `/${name}`;
  return parsed.href;
};

const administer = async (url: string, statement: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(statement).finally(() => client.end());
};
