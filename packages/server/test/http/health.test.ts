import { afterEach, expect, test } from "vitest";
import { Secret } from "../../src/config/secret.ts";
import { metricsSection, serverSection } from "../../src/config/server.ts";
import { createHealth } from "../../src/http/health.ts";
import { createOpsServer, type OpsServer, requireToken } from "../../src/http/ops-server.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { testServer } from "./support.ts";

test("degraded while a check gives a reason; the state is cached for 15 s", async () => {
  let now = Date.parse("2026-03-01T10:00:00Z");
  let reason: string | null = null;
  let asked = 0;
  const health = createHealth(() => now);
  health.registerDegradation("usage dead letters", () => {
    asked += 1;
    return reason;
  });
  expect(await health.health()).toEqual({
    status: "healthy",
    timestamp: "2026-03-01T10:00:00.000Z",
    reasons: [],
  });
  reason = "usage outbox has pending dead letters";
  now += 14_999;
  expect((await health.health()).status).toBe("healthy");
  expect(asked).toBe(1);
  now += 1;
  expect(await health.health()).toMatchObject({ status: "degraded", reasons: [reason] });
  expect((await health.readiness()).ready).toBe(true);
});

test("a check that throws or does not answer counts as failing", async () => {
  const health = createHealth();
  health.registerReadiness("database", () => Promise.reject(new Error("postgres://secret@host")));
  health.registerReadiness("migrations", () => new Promise(() => {}));
  expect(await health.readiness()).toEqual({
    ready: false,
    checks: { database: "check failed", migrations: "no answer within 1 second" },
  });
});

test("a database ping must fail twice; an informational check never counts", async () => {
  const health = createHealth();
  let down = true;
  health.registerReadiness("database", () => (down ? "does not answer" : null), { failures: 2 });
  health.registerReadiness("policy", () => "never loaded", { informational: true });
  const ready = async (): Promise<boolean> => (await health.readiness()).ready;
  expect([await ready(), await ready(), await ready()]).toEqual([true, false, false]);
  down = false;
  expect(await health.readiness()).toEqual({
    ready: true,
    checks: { database: "ok", policy: "never loaded" },
  });
  down = true;
  expect(await ready()).toBe(true);
});

test("health routes are open, at the root and below every part of the prefix, without reasons", async () => {
  const health = createHealth();
  health.registerDegradation("x", () => "private reason");
  health.registerReadiness("draining", () => "draining");
  const { app } = testServer(() => {}, { url_prefix: "/cf/chat" }, { health });
  for (const prefix of ["", "/cf", "/cf/chat"]) {
    const alive = await app.inject({ url: `${prefix}/healthz` });
    expect([alive.statusCode, alive.body]).toEqual([200, "ok"]);
    const state = await app.inject({ url: `${prefix}/health` });
    expect(state.json()).toEqual({ status: "degraded", timestamp: expect.any(String) });
    const ready = await app.inject({ url: `${prefix}/readyz` });
    expect([ready.statusCode, ready.json()]).toEqual([
      503,
      { ready: false, checks: { draining: "draining" } },
    ]);
  }
  expect((await app.inject({ url: "/chat/health" })).statusCode).toBe(404);
});

let ops: OpsServer | undefined;
afterEach(async () => {
  await ops?.close();
  ops = undefined;
});

const start = (server: object = {}, metrics: object = {}): OpsServer => {
  const health = createHealth();
  health.registerDegradation("x", () => "a reason");
  ops = createOpsServer({
    config: {
      server: serverSection.parse({ ops_bind_address: "127.0.0.1:0", ...server }),
      metrics: metricsSection.parse(metrics),
    },
    health,
    metrics: createMetrics("mini_chat"),
    logger: noLogger,
    register: (app) => {
      app.get("/admin", { onRequest: requireToken(new Secret("0123456789abcdef")) }, async () => ({}));
      app.get("/unset", { onRequest: requireToken(undefined) }, async () => ({}));
    },
  });
  return ops;
};

test("the ops listener serves health with reasons, and metrics", async () => {
  const listening = await start().listen();
  const base = `http://127.0.0.1:${listening?.port}`;
  expect(await (await fetch(`${base}/healthz`)).text()).toBe("ok");
  expect(await (await fetch(`${base}/health`)).json()).toMatchObject({
    status: "degraded",
    reasons: ["a reason"],
  });
  expect((await fetch(`${base}/readyz`)).status).toBe(200);
  const scrape = await fetch(`${base}/metrics`);
  expect(scrape.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  expect(await scrape.text()).toContain("mini_chat_active_streams 0");
});

test("metrics can be switched off; without an address there is no listener", async () => {
  const { app } = start({ ops_bind_address: null }, { enabled: false });
  expect((await app.inject({ url: "/metrics" })).json().code).toBe("route_not_found");
  expect(await ops?.listen()).toBeNull();
});

test.each<[string, string, Record<string, string>, number]>([
  ["the right token", "/admin", { authorization: "bearer 0123456789abcdef" }, 200],
  ["another token", "/admin", { authorization: "Bearer 0123456789abcdeF" }, 401],
  ["no token", "/admin", {}, 401],
  ["a token where none is configured", "/unset", { authorization: "Bearer x" }, 404],
])("%s", async (_name, url, headers, status) => {
  const answer = await start().app.inject({ url, headers });
  expect(answer.statusCode).toBe(status);
  if (status >= 400) expect(answer.headers["content-type"]).toBe("application/problem+json");
});
