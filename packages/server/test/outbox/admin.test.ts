import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createHealth } from "../../src/http/health.ts";
import { createOpsServer } from "../../src/http/ops-server.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { registerOutboxAdmin } from "../../src/outbox/routes.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { type Answer, callApi, eventually, startTestApp, type TestApp } from "../support/app.ts";
import { deadRows, depsOf, insertDead } from "./dead-support.ts";

const token = "admin-token-of-tests";
let app: TestApp;
let names: { readonly usage: string; readonly audit: string };
beforeAll(async () => {
  // A usage sink is not wanted here: what is requeued stays where it can be counted.
  app = await startTestApp({ config: { role: "api" } });
  names = { usage: app.config.outbox.queue_name, audit: app.config.outbox.audit_queue_name };
});
afterAll(() => app.close());
beforeEach(async () => {
  await app.db.query("truncate outbox_dead restart identity");
  await app.db.query("truncate outbox_message, outbox_parked");
});

interface AdminCall {
  readonly body?: unknown;
  readonly token?: string | null;
  readonly actor?: string;
}

const admin = (method: string, path: string, call: AdminCall = {}): Promise<Answer> =>
  callApi(`${app.opsBase}/admin/v1/outbox${path}`, method, {
    caller: null,
    body: call.body,
    headers: {
      ...(call.token === null ? {} : { authorization: `Bearer ${call.token ?? token}` }),
      ...(call.actor === undefined ? {} : { "x-actor": call.actor }),
    },
  });

const usageDead = (count: number) =>
  insertDead(
    app.db,
    Array.from({ length: count }, () => ({ queue: names.usage })),
  );

const routes: readonly (readonly [string, string])[] = [
  ["GET", "/status"],
  ["GET", "/dead-letters"],
  ["GET", "/dead-letters:count"],
  ["GET", "/dead-letters/1"],
  ["POST", "/dead-letters:requeue"],
  ["POST", "/dead-letters:discard"],
  ["POST", "/dead-letters:purge"],
  ["GET", "/messages"],
  ["POST", "/messages/0d9c1b1e-53a4-4c3f-9d55-0f6f2f0f5a11/reject"],
  ["POST", "/partitions/1/pause"],
  ["POST", "/partitions/1/resume"],
];

describe("access", () => {
  test.each(routes)("%s %s needs the token", async (method, path) => {
    const before = await usageDead(1);
    for (const wrong of [null, "another-token-of-tests", "internal-token-of-tests", "token-ann"]) {
      const { status, body, headers } = await admin(method, path, {
        token: wrong,
        ...(method === "POST" ? { body: { ids: [1] } } : {}),
      });
      expect([status, body.code]).toEqual([401, "unauthorized"]);
      expect(headers.get("content-type")).toBe("application/problem+json");
    }
    expect((await deadRows(app.db)).map(({ id, status }) => [id, status])).toEqual([[before[0], "pending"]]);
  });

  test.each(routes)("%s %s is not on the public listener", async (method, path) => {
    const { status } = await callApi(new URL(`/admin/v1/outbox${path}`, app.base).href, method, {
      headers: { authorization: `Bearer ${token}` },
      caller: null,
    });
    expect(status).toBe(404);
  });

  test("without a configured token there is nothing at all", async () => {
    const { app: ops } = createOpsServer({
      config: app.config,
      health: createHealth(),
      metrics: app.app.metrics,
      logger: noLogger,
      register: (server) =>
        registerOutboxAdmin(server, {
          ...depsOf(app.db),
          queues: queueSettings(app.config.outbox),
          token: undefined,
          retentionDays: 30,
        }),
    });
    for (const [method, path] of routes) {
      const answer = await ops.inject({
        method: method === "GET" ? "GET" : "POST",
        url: `/admin/v1/outbox${path}`,
        headers: { authorization: "Bearer undefined" },
      });
      expect([path, answer.statusCode, answer.json().code]).toEqual([path, 404, "route_not_found"]);
    }
    await ops.close();
  });
});

describe("dead letters", () => {
  test("are listed newest first, page by page, without payloads", async () => {
    await usageDead(5);
    const first = await admin("GET", "/dead-letters?limit=3");
    expect(first.status).toBe(200);
    expect(first.body.items.map(({ id }: { id: number }) => id)).toEqual([5, 4, 3]);
    expect(first.body.items[0]).toMatchObject({ queue: names.usage, status: "pending", error: "boom" });
    expect(JSON.stringify(first.body)).not.toContain("payload");
    const second = await admin("GET", `/dead-letters?limit=3&cursor=${first.body.page_info.next_cursor}`);
    expect(second.body.items.map(({ id }: { id: number }) => id)).toEqual([2, 1]);
    expect(second.body.page_info).toEqual({ limit: 3, next_cursor: null });
  });

  test("show their payload only with include_payload=true", async () => {
    await usageDead(1);
    expect((await admin("GET", "/dead-letters/1")).body).not.toHaveProperty("payload");
    expect((await admin("GET", "/dead-letters/1?include_payload=false")).body).not.toHaveProperty("payload");
    expect((await admin("GET", "/dead-letters/1?include_payload=true")).body.payload).toBe("{}");
    const { body } = await admin("GET", "/dead-letters?include_payload=true");
    expect(body.items[0].payload).toBe("{}");
  });

  test("are filtered and counted, a queue by its name or kind", async () => {
    await insertDead(app.db, [
      { queue: names.usage },
      { queue: names.audit, kind: "audit" },
      { queue: names.usage, status: "resolved" },
    ]);
    for (const queue of ["audit", names.audit]) {
      const { body } = await admin("GET", `/dead-letters?queue=${queue}`);
      expect(body.items.map(({ id }: { id: number }) => id)).toEqual([2]);
    }
    expect((await admin("GET", "/dead-letters:count?status=all")).body.count).toBe(3);
    expect((await admin("GET", "/dead-letters:count?queue=usage")).body).toMatchObject({
      count: 1,
      groups: [{ queue: names.usage, status: "pending", count: 1, error: "boom" }],
    });
  });

  test("are requeued by id: once, under the caller's name", async () => {
    await usageDead(2);
    const answers = await Promise.all(
      ["ann", "bob"].map((actor) =>
        admin("POST", "/dead-letters:requeue", { actor, body: { ids: [1, 2, 99] } }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    expect(answers.reduce((sum, { body }) => sum + body.changed, 0)).toBe(2);
    expect(answers[0]?.body.skipped).toContainEqual({ id: 99, reason: "unknown" });
    const { rows } = await app.db.query("select message_id from outbox_message order by id");
    const dead = await deadRows(app.db);
    expect(rows).toEqual(dead.map(({ message_id }) => ({ message_id })));
    expect(new Set(dead.map(({ completed_by }) => completed_by)).size).toBe(1);
  });

  test("are discarded by filter, at most so many", async () => {
    await usageDead(3);
    await insertDead(app.db, [{ queue: names.audit }]);
    const { body } = await admin("POST", "/dead-letters:discard", {
      body: { filter: { queue: "usage" }, limit: 2 },
    });
    expect(body).toEqual({ changed: 2, ids: [1, 2], skipped: [] });
    expect((await deadRows(app.db)).map(({ status, completed_by }) => [status, completed_by])).toEqual([
      ["discarded", "admin"],
      ["discarded", "admin"],
      ["pending", null],
      ["pending", null],
    ]);
  });

  test("are purged when they are over and old enough, or all of them", async () => {
    await insertDead(app.db, [
      { status: "resolved", daysAgo: 31 },
      { status: "discarded", daysAgo: 29 },
      { daysAgo: 400 },
    ]);
    expect((await admin("POST", "/dead-letters:purge", { body: {} })).body).toEqual({ deleted: 1 });
    const all = await admin("POST", "/dead-letters:purge", { body: { all_terminal: true } });
    expect(all.body).toEqual({ deleted: 1 });
    expect(await deadRows(app.db)).toMatchObject([{ status: "pending" }]);
  });

  test.each<[string, string, number, unknown?]>([
    ["GET", "/dead-letters?limit=0", 400],
    ["GET", "/dead-letters?limit=many", 400],
    ["GET", "/dead-letters?status=open", 400],
    ["GET", "/dead-letters?tenant_id=ann", 400],
    ["GET", "/dead-letters?partition_id=99999999999", 400],
    ["GET", "/dead-letters?include_payload=yes", 400],
    ["GET", "/dead-letters?cursor=nonsense", 400],
    ["GET", `/dead-letters?cursor=${Buffer.from('["0000-01-01T00:00:00Z","1"]').toString("base64url")}`, 400],
    ["GET", "/dead-letters?queue=%00", 400],
    ["GET", "/dead-letters/0", 400],
    ["GET", "/dead-letters/abc", 400],
    ["GET", "/dead-letters/9007199254740993", 400],
    ["GET", "/dead-letters/404", 404],
    ["GET", "/dead-letters:nothing", 404],
    ["POST", "/dead-letters:requeue", 422, {}],
    ["POST", "/dead-letters:requeue", 422, { ids: [] }],
    ["POST", "/dead-letters:requeue", 422, { ids: ["1"] }],
    ["POST", "/dead-letters:requeue", 422, { ids: [1], filter: { queue: "usage" } }],
    ["POST", "/dead-letters:requeue", 422, { filter: {} }],
    ["POST", "/dead-letters:discard", 422, { filter: { quue: "usage" } }],
    ["POST", "/dead-letters:discard", 422, { filter: { queue: "usage" }, limit: 0 }],
    ["POST", "/dead-letters:purge", 422, { all_terminal: "yes" }],
    ["POST", "/partitions/99999/pause", 404],
    ["GET", "/messages?limit=0", 400],
    ["GET", "/messages?all=yes", 400],
    ["GET", "/messages?tenant_id=ann", 400],
    ["GET", "/messages?cursor=nonsense", 400],
    ["POST", "/messages/12/reject", 400, {}],
    ["POST", "/messages/0d9c1b1e-53a4-4c3f-9d55-0f6f2f0f5a11/reject", 404, {}],
    ["POST", "/messages/0d9c1b1e-53a4-4c3f-9d55-0f6f2f0f5a11/reject", 422, { reason: " " }],
    ["POST", "/messages/0d9c1b1e-53a4-4c3f-9d55-0f6f2f0f5a11/reject", 422, { why: "because" }],
  ])("%s %s is %d (%j): a problem, and nothing changes", async (method, path, status, body) => {
    await usageDead(1);
    const answer = await admin(method, path, { body });
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ type: "about:blank", status, instance: expect.any(String) });
    expect(await deadRows(app.db)).toMatchObject([{ status: "pending" }]);
  });
});

test("a dead letter is delivered again through a live worker", async () => {
  const worker = await startTestApp({ database: app.database, simulator: app.simulator });
  try {
    await usageDead(1);
    await app.db.query("update outbox_dead set payload = 'not json'");
    await admin("POST", "/dead-letters:requeue", { body: { ids: [1] } });
    // It cannot be read, so it dies again: a new dead letter of the same message.
    await eventually(async () => (await deadRows(app.db)).length === 2);
    const [first, second] = await deadRows(app.db);
    expect(second).toMatchObject({ message_id: first?.message_id, status: "pending" });
  } finally {
    await worker.close();
  }
});

describe("what waits", () => {
  /** Messages of keys of their own in the usage queue, oldest first; their message ids. */
  const waitingMessages = async (count: number, attempts = 3): Promise<string[]> => {
    const { rows } = await app.db.query<{ message_id: string }>(
      `with made as (
         insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
         select p.id, t, t, 'usage', '{}'
         from (select gen_random_uuid() as t from generate_series(1, $2::int)) k
         cross join (select min(id) as id from outbox_partition where queue = $1) p
         returning partition_id, id, order_key, message_id
       ),
       parked as (
         insert into outbox_parked (partition_id, order_key, until, attempts, error)
         select partition_id, order_key, now() + interval '1 hour', $3, 'the sink answered 500'
         from made
         where $3 > 0
       )
       select message_id from made order by id`,
      [names.usage, count, attempts],
    );
    return rows.map((row) => row.message_id);
  };

  test("is listed oldest first, page by page, without payloads", async () => {
    const ids = await waitingMessages(5);
    const idsOf = ({ body }: Answer) => body.items.map((one: { message_id: string }) => one.message_id);
    const first = await admin("GET", "/messages?limit=3&queue=usage");
    expect(first.status).toBe(200);
    expect(idsOf(first)).toEqual(ids.slice(0, 3));
    expect(first.body.items[0]).toMatchObject({
      queue: names.usage,
      kind: "usage",
      condition: "backing_off",
      attempts: 3,
      error: "the sink answered 500",
      behind: 0,
      first_failed_at: expect.any(String),
      next_attempt_at: expect.any(String),
    });
    expect(JSON.stringify(first.body)).not.toContain("payload");
    const second = await admin("GET", `/messages?limit=3&cursor=${first.body.page_info.next_cursor}`);
    expect(idsOf(second)).toEqual(ids.slice(3));
    expect(second.body.page_info).toEqual({ limit: 3, next_cursor: null });
    const { tenant_id: tenant } = second.body.items[1];
    expect(idsOf(await admin("GET", `/messages?tenant_id=${tenant}`))).toEqual(ids.slice(4));
  });

  test("is what failed, and with all=true the rest as well", async () => {
    const ids = await waitingMessages(1, 0);
    expect((await admin("GET", "/messages")).body.items).toEqual([]);
    expect((await admin("GET", "/messages?all=true")).body.items).toMatchObject([
      { message_id: ids[0], condition: "due", attempts: 0 },
    ]);
  });

  test("is given up once, under the caller's name, and can be requeued", async () => {
    const [id] = await waitingMessages(2);
    const calls = ["ann", "bob"].map((actor) =>
      admin("POST", `/messages/${id}/reject`, { actor, body: { reason: "ticket 4711" } }),
    );
    const answers = (await Promise.all(calls)).toSorted((one, other) => one.status - other.status);
    expect(answers.map(({ status, body }) => [status, body.code])).toEqual([
      [200, undefined],
      [404, "route_not_found"],
    ]);
    const letter = answers[0]?.body;
    expect(letter).toMatchObject({
      message_id: id,
      status: "pending",
      attempts: 3,
      error: "the sink answered 500",
      rejected_by: expect.stringMatching(/^(ann|bob)$/),
      reject_reason: "ticket 4711",
    });
    expect(app.logs).toContainEqual(
      expect.objectContaining({
        msg: "waiting message rejected",
        actor: letter.rejected_by,
        reason: "ticket 4711",
        message_ids: [id],
        dead_letter_ids: [String(letter.id)],
      }),
    );
    await eventually(() =>
      app.logs.some((line) => line["operation"] === "messages_reject" && line["message_id"] === id),
    );
    const requeued = await admin("POST", "/dead-letters:requeue", { body: { ids: [letter.id] } });
    expect(requeued.body).toMatchObject({ changed: 1 });
  });

  test("is not given up while a worker delivers its partition, nor behind another of its key: 409", async () => {
    const [id] = await waitingMessages(1);
    const lease = (until: string) =>
      app.db.query(
        `update outbox_partition set lease_token = gen_random_uuid(), lease_until = now() + $2::interval
         where queue = $1`,
        [names.usage, until],
      );
    await lease("1 hour");
    const leased = await admin("POST", `/messages/${id}/reject`, { body: {} });
    expect([leased.status, leased.body.detail]).toEqual([
      409,
      expect.stringContaining("a worker is delivering"),
    ]);
    await lease("-1 hour");
    const { rows } = await app.db.query<{ message_id: string }>(`
      insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
      select partition_id, tenant_id, order_key, kind, payload
      from outbox_message
      returning message_id`);
    const behind = await admin("POST", `/messages/${rows[0]?.message_id}/reject`, { body: {} });
    expect([behind.status, behind.body.detail]).toEqual([409, expect.stringContaining("not the first")]);
    for (const { body, headers } of [leased, behind]) {
      expect(body).toMatchObject({ type: "about:blank", status: 409, code: "generation_in_progress" });
      expect(headers.get("content-type")).toBe("application/problem+json");
    }
    expect(await deadRows(app.db)).toEqual([]);
  });
});

test("status tells backlog, partitions and dead letters; a partition is paused and resumed", async () => {
  await usageDead(2);
  await admin("POST", "/dead-letters:requeue", { body: { ids: [1] } });
  const status = async () => (await admin("GET", "/status")).body;
  const before = await status();
  expect(before).toMatchObject({ backlog: 1, dead_letters_pending: 1, stray_messages: 0 });
  const { partition_id: id } = before.partitions.find((one: { backlog: number }) => one.backlog === 1);
  const paused = await admin("POST", `/partitions/${id}/pause`);
  expect(paused.body).toMatchObject({ partition_id: id, queue: names.usage, paused: true });
  const one = async () =>
    (await status()).partitions.find((found: { partition_id: number }) => found.partition_id === id);
  expect(await one()).toMatchObject({ condition: "paused" });
  await admin("POST", `/partitions/${id}/resume`);
  expect(await one()).toMatchObject({ condition: "due" });
});

describe("the log", () => {
  const linesOf = (actor: string) =>
    app.logs.filter((line) => line["msg"] === "admin call" && line["actor"] === actor);

  test("has a line for every call with who made it, also for refused ones", async () => {
    await usageDead(1);
    await admin("GET", "/dead-letters/1?include_payload=true", { actor: "carol" });
    await admin("POST", "/dead-letters:discard", { actor: "carol", body: { ids: [1] } });
    await admin("GET", "/status", { actor: "carol", token: "a-wrong-token-of-tests" });
    await eventually(() => linesOf("carol").length === 3);
    expect(linesOf("carol")).toMatchObject([
      { operation: "dead_letters_show", id: 1, http_status: 200 },
      { operation: "dead_letters_discard", http_status: 200 },
      { operation: "status", http_status: 401 },
    ]);
    expect(app.logs).toContainEqual(
      expect.objectContaining({ msg: "dead letters discarded", actor: "carol", dead_letter_ids: ["1"] }),
    );
    expect(JSON.stringify(app.logs)).not.toContain(token);
  });

  test("refuses a name that cannot be logged", async () => {
    const { status, body } = await admin("GET", "/status", { actor: "x".repeat(129) });
    expect([status, body.errors]).toMatchObject([400, [{ field: "x-actor" }]]);
  });
});

test("every hour what is over is forgotten, by whichever process leads", async () => {
  await insertDead(app.db, [
    { status: "resolved", daysAgo: 8 },
    { status: "resolved", daysAgo: 6 },
    { daysAgo: 400 },
  ]);
  // Jobs of many processes start at a random time of their interval.
  const random = vi.spyOn(Math, "random").mockReturnValue(0);
  try {
    const worker = await startTestApp({
      database: app.database,
      simulator: app.simulator,
      config: { role: "worker", outbox: { dead_letter_retention_days: 7 } },
    });
    try {
      await eventually(async () => (await deadRows(app.db)).length === 2);
      expect((await deadRows(app.db)).map(({ status }) => status)).toEqual(["resolved", "pending"]);
      await eventually(() => worker.logs.some(({ msg }) => msg === "dead letters purged"));
      expect(worker.logs).toContainEqual(
        expect.objectContaining({ job: "dead_letter_retention", leader: true }),
      );
    } finally {
      await worker.close();
    }
  } finally {
    random.mockRestore();
  }
});
