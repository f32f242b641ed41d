import { randomUUID } from "node:crypto";
import { startSimulator } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { eventually, type TestAppOptions } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startDatabaseProxy } from "../support/proxy.ts";
import { type ApiApp, startApiApp } from "./support.ts";

let database: TestDatabase;
let simulator: Awaited<ReturnType<typeof startSimulator>>;
beforeAll(async () => {
  [database, simulator] = [await createTestDatabase(), await startSimulator()];
});
afterAll(async () => {
  await simulator.close();
  await database.drop();
});

const started: ApiApp[] = [];
afterEach(async () => {
  for (const app of started.splice(0)) await app.close();
  await database.db.query("truncate outbox_dead, outbox_message, app_instances");
});

const start = async (config: Tree = {}, options: TestAppOptions = {}): Promise<ApiApp> => {
  const app = await startApiApp({ database, simulator, config, ...options });
  started.push(app);
  return app;
};

interface Report {
  readonly status: number;
  readonly body: {
    readonly status?: string;
    readonly reasons?: readonly string[];
    readonly ready?: boolean;
    readonly checks?: Readonly<Record<string, string>>;
  };
}

const get = async (url: string | URL): Promise<Report> => {
  const answer = await fetch(url);
  return { status: answer.status, body: (await answer.json()) as Report["body"] };
};
const health = (app: ApiApp): Promise<Report> => get(`${app.opsBase}/health`);
const readiness = (app: ApiApp): Promise<Report> => get(`${app.opsBase}/readyz`);

const addDeadLetter = async (queue: string, ageSecs: number, status = "pending"): Promise<void> => {
  await database.db.query(
    `insert into outbox_dead (
       queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at, attempts,
       first_failed_at, last_failed_at, error, fingerprint, status, completed_at
     )
     select $1, 1, $2, $2, $2, 'x', '{}', now() - interval '2 days', 5,
       now() - interval '1 day', now() - make_interval(secs => $3), 'x', 'x', $4::text, case when $4::text = 'discarded' then now() end`,
    [queue, randomUUID(), ageSecs, status],
  );
};

const addPending = async (app: ApiApp, queue: string, ageSecs: number): Promise<void> => {
  await database.db.query(
    `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload, created_at)
     select p.id, $2, $2, 'x', '{}', now() - make_interval(secs => $3)
     from outbox_partition p where p.queue = $1 order by p.id limit 1`,
    [queue, randomUUID(), ageSecs],
  );
  expect(app.config.role).toBe("api");
};

const addWorker = async (silentSecs: number, role = "worker"): Promise<void> => {
  await database.db.query(
    `insert into app_instances (id, role, version, last_seen_at)
     values ($1, $2, 'x', now() - make_interval(secs => $3))`,
    [randomUUID(), role, silentSecs],
  );
};

const usageQueue = "mini-chat.usage_snapshot";

describe("degraded", () => {
  test("a process with nothing amiss is healthy and ready", async () => {
    const app = await start();
    expect(await health(app)).toEqual({
      status: 200,
      body: { status: "healthy", timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) },
    });
    expect(await readiness(app)).toMatchObject({ status: 200, body: { ready: true } });
  });

  interface Row {
    readonly name: string;
    readonly arrange: (app: ApiApp) => Promise<void>;
    readonly reasons: readonly (string | RegExp)[];
  }

  const rows: readonly Row[] = [
    {
      name: "a pending usage dead letter",
      arrange: ({ config }) => addDeadLetter(config.outbox.queue_name, 10),
      reasons: ["usage outbox has pending dead letters"],
    },
    {
      name: "a usage dead letter of an hour and a second",
      arrange: ({ config }) => addDeadLetter(config.outbox.queue_name, 3_601),
      reasons: [
        "usage outbox has pending dead letters",
        /^oldest usage dead letter is 360[1-9] seconds old$/,
      ],
    },
    {
      name: "a usage dead letter that was discarded: nothing",
      arrange: ({ config }) => addDeadLetter(config.outbox.queue_name, 9_999, "discarded"),
      reasons: [],
    },
    {
      name: "a dead letter of another queue: nothing",
      arrange: ({ config }) => addDeadLetter(config.outbox.audit_queue_name, 9_999),
      reasons: [],
    },
    {
      name: "an event that waits for longer than 300 s",
      arrange: (app) => addPending(app, app.config.outbox.queue_name, 301),
      reasons: [/wait/],
    },
    {
      name: "an event that waits for less: nothing",
      arrange: (app) => addPending(app, app.config.outbox.queue_name, 290),
      reasons: [],
    },
    {
      name: "no worker seen for 60 s",
      arrange: async () => {
        await database.db.query("delete from app_instances where role = 'worker'");
        await addWorker(61);
        await addWorker(0, "api");
      },
      reasons: [/worker/],
    },
    {
      name: "a worker seen 50 s ago: nothing",
      arrange: async () => {
        await database.db.query("delete from app_instances where role = 'worker'");
        await addWorker(50);
      },
      reasons: [],
    },
  ];

  test.each(rows)("$name", async ({ arrange, reasons }) => {
    // It delivers nothing itself, and a worker is alive elsewhere.
    const app = await start({ role: "api" });
    await addWorker(0);
    await arrange(app);
    const { status, body } = await health(app);
    expect([status, body.status]).toEqual([200, reasons.length === 0 ? "healthy" : "degraded"]);
    expect(body.reasons ?? []).toHaveLength(reasons.length);
    for (const reason of reasons) {
      expect(body.reasons).toContainEqual(
        typeof reason === "string" ? reason : expect.stringMatching(reason),
      );
    }
    expect(await readiness(app)).toMatchObject({ status: 200, body: { ready: true } });
    const open = await get(new URL("/health", app.base));
    expect(open.body.status).toBe(body.status);
    expect(Object.keys(open.body).toSorted()).toEqual(["status", "timestamp"]);
  });

  test("is remembered for a while, so that probes cost nothing", async () => {
    const app = await start({ role: "api" });
    await addWorker(0);
    expect((await health(app)).body.status).toBe("healthy");
    await addDeadLetter(app.config.outbox.queue_name, 10);
    expect((await health(app)).body.status).toBe("healthy");
  });

  test("the queue of usage is the one whose name this file relies on", async () => {
    const app = await start({ role: "api" });
    expect(app.config.outbox.queue_name).toBe(usageQueue);
  });
});

describe("readiness", () => {
  test("tells of a policy never loaded, and stays ready; a first request loads it", async () => {
    const app = await start();
    const before = await readiness(app);
    expect(before).toMatchObject({ status: 200, body: { ready: true } });
    expect(before.body.checks).toEqual({
      database: "ok",
      migrations: "ok",
      draining: "ok",
      policy: expect.not.stringMatching(/^ok$/),
    });
    expect((await app.call("GET", "/models")).status).toBe(200);
    expect((await readiness(app)).body.checks?.["policy"]).toBe("ok");
  });

  test("ends when the database does not answer twice in a row, and comes back with it", async () => {
    const way = await startDatabaseProxy(database.url);
    const app = await start({}, { database: { ...database, url: way.url } });
    try {
      const chatId = await app.createChat();
      way.cut();
      expect(await readiness(app)).toMatchObject({ status: 200, body: { ready: true } });
      const down = await readiness(app);
      expect(down).toMatchObject({ status: 503, body: { ready: false } });
      expect(down.body.checks?.["database"]).not.toBe("ok");
      // The text may go to anybody who can reach the probe.
      expect(JSON.stringify(down.body)).not.toMatch(/127\.0\.0\.1|postgres|ECONN/);
      expect(await (await fetch(`${app.opsBase}/healthz`)).text()).toBe("ok");
      expect((await health(app)).status).toBe(200);
      for (const [method, path, body] of [
        ["GET", "/chats", undefined],
        ["GET", `/chats/${chatId}/messages`, undefined],
        ["POST", "/chats", {}],
        ["PATCH", `/chats/${chatId}`, { title: "x" }],
        ["DELETE", `/chats/${chatId}`, undefined],
        ["POST", `/chats/${chatId}/messages:stream`, { content: "PING" }],
        ["GET", "/quota/status", undefined],
      ] as const) {
        const answer = await app.call(method, path, { body });
        expect(`${answer.status} ${answer.body.code}`, path).toBe("503 service_unavailable");
        expect(answer.headers.get("retry-after")).toBe("5");
      }
      way.restore();
      await eventually(async () => (await readiness(app)).status === 200);
      await eventually(async () => (await app.call("GET", `/chats/${chatId}`)).status === 200);
    } finally {
      way.restore();
    }
  });

  test("is over where the schema is behind this program", async () => {
    const behind = await createTestDatabase();
    try {
      const app = await start({}, { database: behind });
      await behind.db.query(
        "delete from schema_migrations where version = (select max(version) from schema_migrations)",
      );
      const report = await readiness(app);
      expect(report).toMatchObject({ status: 503, body: { ready: false } });
      expect(report.body.checks?.["migrations"]).not.toBe("ok");
      await app.close();
      started.splice(started.indexOf(app), 1);
    } finally {
      await behind.drop();
    }
  });

  test("is over first while draining: everything still works, then new turns are refused, reads go on", async () => {
    const app = await start({ shutdown_ready_delay_secs: 1, shutdown_grace_secs: 20 });
    const chatId = await app.createChat();
    const other = await app.createChat();
    const { requestId } = await app.ask(chatId, "PING");
    app.simulator.enqueue({ events: [{ text: "One " }, { wait_for: "drained" }, { text: "two" }] });
    const running = await app.send(chatId, { content: "Go on" });
    await running.until("delta");
    const stopped = app.app.stop();
    const down = await readiness(app);
    expect(down).toMatchObject({ status: 503, body: { ready: false, checks: { database: "ok" } } });
    expect(down.body.checks?.["draining"]).not.toBe("ok");
    expect((await app.call("GET", "/models")).status).toBe(200);
    const send = () => app.call("POST", `/chats/${other}/messages:stream`, { body: { content: "PING" } });
    let refused = await send();
    expect(refused.status).toBe(200);
    await eventually(async () => {
      refused = await send();
      return refused.status !== 200;
    });
    expect(`${refused.status} ${refused.body.code}`).toBe("503 shutting_down");
    expect(refused.headers.get("retry-after")).toBe("5");
    expect(refused.headers.get("connection")).toBe("close");
    expect((await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body.state).toBe("done");
    expect((await app.call("GET", `/chats/${chatId}/messages`)).status).toBe(200);
    app.simulator.open("drained");
    expect((await running.rest()).at(-1)?.event).toBe("done");
    await stopped;
  });
});

describe("where health is served", () => {
  test("the public listener at the root and below every part of the prefix, without a token and unlimited", async () => {
    const limits = { rps: 1, burst: 1, in_flight: 1, per_user_rps: 1, per_user_burst: 1 };
    const app = await start({ url_prefix: "/cf/mini-chat", server: { rate_limit: limits } });
    for (const prefix of ["", "/cf", "/cf/mini-chat"]) {
      for (const [path, status] of [
        ["/health", 200],
        ["/healthz", 200],
        ["/readyz", 200],
        ["/health/", 404],
        ["/Health", 404],
      ] as const) {
        expect((await fetch(new URL(prefix + path, app.base))).status, prefix + path).toBe(status);
      }
    }
    for (const path of ["/mini-chat/health", "/cf/mini-chat/v1/health"]) {
      expect((await fetch(new URL(path, app.base))).status, path).toBe(404);
    }
    const many = Array.from({ length: 30 }, () => fetch(`${app.opsBase}/readyz`));
    expect((await Promise.all(many)).map(({ status }) => status)).toEqual(Array(30).fill(200));
    expect((await app.call("GET", "/models")).status).toBe(200);
    expect((await app.call("GET", "/models")).body.code).toBe("too_many_requests");
  });

  test("/healthz is text", async () => {
    const app = await start();
    for (const root of [app.base, app.opsBase]) {
      const answer = await fetch(new URL("/healthz", root));
      expect([answer.headers.get("content-type"), await answer.text()]).toEqual([
        expect.stringMatching(/^text\/plain/),
        "ok",
      ]);
    }
  });

  test("without an ops listener only the public one is left", async () => {
    const app = await start({ server: { ops_bind_address: null } });
    expect(app.app.ops).toBeNull();
    expect((await fetch(new URL("/readyz", app.base))).status).toBe(200);
  });

  test("a worker has the ops listener only", async () => {
    const app = await start({ role: "worker" });
    expect(app.app.api).toBeNull();
    expect(await readiness(app)).toMatchObject({ status: 200, body: { ready: true } });
  });
});

describe("POST /internal/policy:notify", () => {
  const notify = (root: string, headers: Record<string, string>): Promise<Response> =>
    fetch(new URL("/internal/policy:notify", root), {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ tenant_id: callers.ann.tenantId, policy_version: 7 }),
    });

  test.each<[string, Record<string, string>, number]>([
    ["the service token", { authorization: "Bearer internal-token-of-tests" }, 200],
    ["no token", {}, 401],
    ["the token of administration", { authorization: "Bearer admin-token-of-tests" }, 401],
    ["a user's token", { authorization: `Bearer ${callers.ann.token}` }, 401],
    ["another scheme", { authorization: "Basic internal-token-of-tests" }, 401],
  ])("with %s", async (_name, headers, status) => {
    const app = await start();
    const answer = await notify(app.opsBase, headers);
    expect(answer.status).toBe(status);
    if (status === 200) expect(await answer.json()).toEqual({ accepted: true });
    else expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  });

  test("is not there where no token is configured, nor on the public listener", async () => {
    const app = await start({ internal: { api_token: undefined } });
    const known = { authorization: "Bearer internal-token-of-tests" };
    const asked = [app.opsBase, app.base].flatMap((root) => [
      notify(root, known),
      fetch(new URL("/internal/policy:notify", root), { headers: known }),
    ]);
    for (const answer of await Promise.all(asked)) {
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([
        404,
        "route_not_found",
      ]);
    }
  });
});
