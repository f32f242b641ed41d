import { randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { overlay, type Tree } from "../../packages/server/src/config/tree.ts";
import { type EmbeddedPostgres, startEmbedded } from "../../packages/server/src/db/embedded.ts";
import { migrate } from "../../packages/server/src/db/migrate.ts";
import { testConfigTree } from "../../packages/server/test/support/config.ts";
import type { Scenario } from "../../packages/simulator/src/index.ts";
import { type Child, type ChildOptions, startChild } from "./child.ts";
import { cpuMs, familyCpuMs, type Machine, watchMachine } from "./measure.ts";

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

export const serverScript = path("../../packages/server/src/main.ts");
const simulatorScript = path("../../packages/simulator/src/main.ts");
const tenants = 16;

/** A caller with quota of its own. */
export interface User {
  readonly token: string;
  readonly tenantId: string;
  readonly userId: string;
}

/** CPU time in ms since the measurement began. */
export interface CpuSplit {
  readonly server: number;
  readonly postgres: number;
  readonly provider: number;
  /** The benchmark itself, which is the client. */
  readonly client: number;
}

/** A server with PostgreSQL as in production, a provider, and callers, each a process of its own. */
export interface Stack {
  readonly dir: string;
  readonly databaseUrl: string;
  readonly providerPort: number;
  readonly server: Child;
  readonly serverPort: number;
  readonly users: readonly User[];
  /** What the provider answers from now on. */
  setAnswer(scenario: Scenario): Promise<void>;
  /** Starts to count CPU time. */
  cpu(): () => CpuSplit;
  machine(): () => Machine;
}

export interface StackOptions {
  readonly users: number;
  /** Laid over the configuration of `benchConfig`. */
  readonly config?: Tree;
  /** A script that prints its address as the simulator does; default: the simulator. */
  readonly provider?: { readonly script: string; readonly args: readonly string[] };
  readonly server?: Pick<ChildOptions, "nodeArgs" | "env">;
}

/** A temporary directory that the embedded server's account may pass; removed afterwards. */
export const withDirectory = async <T>(work: (dir: string) => Promise<T>): Promise<T> => {
  const dir = await mkdtemp(join(tmpdir(), "mini-chat-bench-"));
  await chmod(dir, 0o755);
  // For a benchmark that is interrupted.
  const remove = (): void => rmSync(dir, { recursive: true, force: true });
  process.once("exit", remove);
  try {
    return await work(dir);
  } finally {
    process.off("exit", remove);
    await rm(dir, { recursive: true, force: true });
  }
};

/** Migrated PostgreSQL of the package that waits for its disk, as in production. */
export const withDatabase = <T>(work: (database: EmbeddedPostgres, dir: string) => Promise<T>): Promise<T> =>
  withDirectory(async (dir) => {
    const database = await startEmbedded({ dataDir: join(dir, "data") });
    const abandon = (): void => void process.kill(database.pid, "SIGQUIT");
    process.once("exit", abandon);
    try {
      await migrate({ url: database.url, mode: "auto" });
      return await work(database, dir);
    } finally {
      process.off("exit", abandon);
      await database.stop();
    }
  });

const makeUsers = (count: number): User[] => {
  const ids = Array.from({ length: Math.min(tenants, count) }, () => randomUUID());
  return Array.from({ length: count }, (_, at) => ({
    token: `token-${at}`,
    tenantId: ids[at % ids.length] ?? "",
    userId: randomUUID(),
  }));
};

const endless = 9_000_000_000_000_000;

/**
 * The configuration of a measured server: quotas counted and never reached, usage and audit events
 * delivered as by default, the log as in production.
 */
export const benchConfig = (
  place: { readonly databaseUrl: string; readonly providerPort: number; readonly dir: string },
  users: readonly User[],
): unknown =>
  overlay(testConfigTree({ databaseUrl: place.databaseUrl, simulatorPort: place.providerPort }), {
    auth: {
      tokens: users.map(({ token, tenantId, userId }) => ({ token, tenant_id: tenantId, user_id: userId })),
    },
    plugins: {
      model_policy: {
        static: {
          default_standard_limits: {
            limit_daily_credits_micro: endless,
            limit_monthly_credits_micro: endless,
          },
          default_premium_limits: {
            limit_daily_credits_micro: endless,
            limit_monthly_credits_micro: endless,
          },
        },
      },
      // Audit events go to the log, which is the default.
      audit: { type: "log" },
    },
    outbox: { num_partitions: 64, poll_interval_ms: 1_000 },
    log: { level: "info" },
  });

/** Brings everything up, runs the work, and takes everything down in reverse. */
export const withStack = <T>(options: StackOptions, work: (stack: Stack) => Promise<T>): Promise<T> =>
  withDatabase(async (database, dir) => {
    const script = options.provider?.script ?? simulatorScript;
    const provider = startChild(script, options.provider?.args ?? ["--port", "0"], {
      log: join(dir, "provider.log"),
    });
    const stopping: Child[] = [provider];
    try {
      const [, providerPort] = await provider.printed(/^http:\/\/[^:]+:(\d+)\n/m);
      const users = makeUsers(options.users);
      const place = { databaseUrl: database.url, providerPort: Number(providerPort), dir };
      const file = join(dir, "config.json");
      writeFileSync(file, JSON.stringify(overlay(benchConfig(place, users), options.config ?? {})));
      const server = startChild(serverScript, ["serve", "--config", file], {
        log: join(dir, "server.log"),
        ...options.server,
        nodeArgs: [...profileArgs(), ...(options.server?.nodeArgs ?? [])],
      });
      stopping.unshift(server);
      const [, serverPort] = await server.printed(/^\{.*"api":(\d+).*"msg":"ready"/m);
      const readCpu = (): CpuSplit => ({
        server: cpuMs(server.pid),
        postgres: familyCpuMs(database.pid),
        provider: cpuMs(provider.pid),
        client: cpuMs(process.pid),
      });
      const total = (): number => Object.values(readCpu()).reduce((sum: number, ms: number) => sum + ms, 0);
      return await work({
        ...place,
        server,
        serverPort: Number(serverPort),
        users,
        setAnswer: (scenario) => setDefault(place.providerPort, scenario),
        cpu: () => {
          const before = readCpu();
          return () => difference(readCpu(), before);
        },
        machine: () => watchMachine(total),
      });
    } finally {
      for (const child of stopping) await child.stop();
    }
  });

/** `BENCH_CPU_PROF=DIR` leaves a CPU profile of the server in that directory. */
const profileArgs = (): string[] => {
  const dir = process.env["BENCH_CPU_PROF"];
  return dir === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", dir];
};

const difference = (now: CpuSplit, before: CpuSplit): CpuSplit => ({
  server: now.server - before.server,
  postgres: now.postgres - before.postgres,
  provider: now.provider - before.provider,
  client: now.client - before.client,
});

const setDefault = async (port: number, scenario: Scenario): Promise<void> => {
  const response = await fetch(`http://127.0.0.1:${port}/__sim/state`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ default_scenario: scenario }),
  });
  if (!response.ok) throw new Error(`scenario refused: ${await response.text()}`);
};
