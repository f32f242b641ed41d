import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { listedMetrics, readSamples, type Sample, unlisted } from "./metric-list.ts";
import { startApiApp } from "./support.ts";

const app = await startApiApp();
afterAll(() => app.close());

const scrape = async (): Promise<string> => await (await fetch(`${app.opsBase}/metrics`)).text();

const { ann } = callers;

/** One of each way a turn can go. */
const playTurns = async (): Promise<void> => {
  const chatId = await app.createChat(ann, { model: "premium" });
  const { requestId } = await app.ask(chatId, "PING");
  const again = await app.send(chatId, { content: "PING", request_id: requestId });
  await again.rest();
  await app.ask(chatId, "ERROR");
  await app.ask(chatId, "TRUNCATE");
  const search = await app.send(chatId, { content: "SEARCH: news", web_search: { enabled: true } });
  await search.rest();
  app.simulator.enqueue({ http_status: 400 });
  await app.ask(chatId, "Refused by the provider");
  app.simulator.enqueue({ events: [{ text: "One " }, { wait_for: "never" }] });
  const left = await app.send(chatId, { content: "Tell me" });
  await left.until("delta");
  left.disconnect();
  const ended = async (): Promise<boolean> =>
    (await app.send(chatId, { content: "PING" }).then((one) => one.rest())).length > 0;
  await eventually(
    async () => (await app.db.query("select from chat_turns where state = 'running'")).rowCount === 0,
  );
  expect(await ended()).toBe(true);
  app.simulator.enqueue({ events: [{ text: "One " }, { wait_for: "never" }] });
  const stopId = randomUUID();
  const stopped = await app.send(chatId, { content: "Tell me", request_id: stopId });
  await stopped.until("delta");
  await app.call("POST", `/chats/${chatId}/turns/${stopId}/cancel`);
  await stopped.rest();
  await app.call("DELETE", `/chats/${chatId}`);
  await app.call("GET", `/chats/${chatId}`);
  await app.call("GET", `/${randomUUID()}`);
  await app.raw({ method: "PURGE", target: "/v1/chats" });
  await eventually(async () => {
    const { rowCount } = await app.db.query(
      `select from outbox_message m join outbox_partition p on p.id = m.partition_id where p.queue = any($1::text[])`,
      [[app.config.outbox.queue_name, app.config.outbox.audit_queue_name]],
    );
    return rowCount === 0;
  });
};

test("the first scrape has the counters an alert waits for, at 0", async () => {
  const text = await scrape();
  for (const counter of [
    'orphan_detected_total{reason="dead_owner"}',
    'orphan_finalized_total{reason="stale_progress"}',
    'policy_refresh_total{result="invalid"}',
    'quota_reserve_anomaly_total{period="monthly"}',
    'audit_emit_total{result="reject"}',
    "credits_overflow_total",
    "outbox_gap_detected_total",
  ]) {
    expect(text).toContain(`mini_chat_${counter} 0\n`);
  }
});

describe("after turns of every kind", () => {
  let text: string;
  let samples: readonly Sample[];
  beforeAll(async () => {
    await playTurns();
    text = await scrape();
    samples = readSamples(text);
  });

  const total = (name: string, labels: Readonly<Record<string, string>> = {}): number =>
    samples
      .filter(({ metric }) => metric === `mini_chat_${name}`)
      .filter((one) => Object.entries(labels).every(([label, value]) => one.labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0);

  test("a scrape shows only listed names, labels and values", () => {
    expect(unlisted(text)).toEqual([]);
  });

  test("every listed metric is exported, with its type", () => {
    const exported = [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name);
    expect([...listedMetrics.keys()].filter((name) => !exported.includes(name))).toEqual([]);
  });

  test("no label holds an id or what somebody wrote", () => {
    expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}/i);
    expect(text).not.toMatch(/Tell me|PING|token-ann|resp_|file-/);
  });

  test("each kind of turn is counted where it belongs", () => {
    expect({
      completed: total("stream_completed_total"),
      incomplete: total("stream_incomplete_total", { reason: "max_tokens" }),
      failed: total("stream_failed_total", { error_code: "provider_error" }),
      replayed: total("stream_replay_total"),
      left: total("stream_disconnected_total", { stage: "mid_stream" }),
      stopped: total("cancel_requested_total", { trigger: "user_stop" }),
      gone: total("cancel_requested_total", { trigger: "disconnect" }),
      searches: total("tool_calls_total", { tool: "web_search", phase: "done" }),
      sources: total("citations_by_source_total", { source: "web" }),
    }).toEqual({
      completed: 4,
      incomplete: 1,
      failed: 2,
      replayed: 1,
      left: 1,
      stopped: 1,
      gone: 1,
      searches: 1,
      sources: 1,
    });
  });

  test("the identities of ops.md §5 hold", () => {
    const cancelled = 2;
    expect(total("stream_started_total")).toBe(
      total("stream_completed_total") + total("stream_failed_total") + cancelled,
    );
    expect(total("stream_incomplete_total")).toBeLessThanOrEqual(total("stream_completed_total"));
    expect(total("cancel_effective_total")).toBeLessThanOrEqual(total("cancel_requested_total"));
    expect(total("orphan_finalized_total")).toBeLessThanOrEqual(total("orphan_detected_total"));
    expect(total("quota_preflight_total")).toBe(total("quota_preflight_v2_total"));
    expect(total("finalization_latency_ms")).toBe(total("stream_started_total"));
    expect(total("active_streams")).toBe(0);
    expect(total("http_server_active_requests")).toBe(
      total("http_server_active_requests", { route: "/metrics" }),
    );
  });

  test("events are counted from enqueue to acknowledgement", () => {
    const usage = { kind: "usage" };
    expect(total("outbox_enqueue_total", { ...usage, result: "ok" })).toBe(8);
    expect(total("outbox_handler_total", { ...usage, result: "success" })).toBe(8);
    expect(total("outbox_acknowledged_total", usage)).toBe(8);
    expect(total("outbox_delivery_latency_ms", usage)).toBe(8);
  });

  test("requests are counted by template, unknown paths as none", () => {
    const requests = (labels: Readonly<Record<string, string>>): number =>
      total("http_server_request_duration_ms", labels);
    expect(requests({ method: "POST", route: "/v1/chats", status: "201" })).toBe(1);
    expect(requests({ method: "DELETE", route: "/v1/chats/:id", status: "204" })).toBe(1);
    expect(requests({ method: "GET", route: "/v1/chats/:id", status: "404" })).toBe(1);
    expect(requests({ route: "none", status: "404" })).toBe(1);
  });
});

describe("the exposition", () => {
  test("is the text format of Prometheus", async () => {
    const answer = await fetch(`${app.opsBase}/metrics`);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(await answer.text()).toMatch(/^# HELP /);
  });

  test("is not on the public listener", async () => {
    for (const path of ["/metrics", "/v1/metrics"]) {
      expect((await fetch(new URL(path, app.base))).status).toBe(404);
    }
  });

  test("takes the configured prefix, and can be switched off", async () => {
    const shared = { database: app.database, simulator: app.simulator };
    const named = await startApiApp({ ...shared, config: { role: "api", metrics: { prefix: "acme" } } });
    const off = await startApiApp({ ...shared, config: { role: "api", metrics: { enabled: false } } });
    try {
      const text = await (await fetch(`${named.opsBase}/metrics`)).text();
      expect([...text.matchAll(/^# TYPE (\w+?)_/gm)].every(([, prefix]) => prefix === "acme")).toBe(true);
      expect((await fetch(`${off.opsBase}/metrics`)).status).toBe(404);
    } finally {
      await named.close();
      await off.close();
    }
  });
});
