import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { metricTable } from "../../src/telemetry/metric-names.ts";
import { createMetrics, sampleEventLoopLag } from "../../src/telemetry/metrics.ts";

test("counters get the prefix and _total, gauges and histograms the prefix only", async () => {
  const metrics = createMetrics("acme");
  metrics.count("stream_started", { provider: "openai", model: "gpt-4.1-mini" });
  metrics.count("stream_started", { provider: "openai", model: "gpt-4.1-mini" }, 2);
  metrics.add("active_streams", {}, 1);
  metrics.set("leader", { job: "watchdog" }, 1);
  metrics.observe("finalization_latency_ms", {}, 7);
  const text = await metrics.render();
  expect(text).toContain('acme_stream_started_total{provider="openai",model="gpt-4.1-mini"} 3');
  expect(text).toContain("acme_active_streams 1");
  expect(text).toContain('acme_leader{job="watchdog"} 1');
  expect(text).toContain('acme_finalization_latency_ms_bucket{le="10"} 1');
  expect(text).toContain('acme_finalization_latency_ms_bucket{le="5"} 0');
});

test("a counter begins at 0 for every set of listed label values, and for none that is learned", async () => {
  const text = await createMetrics("m").render();
  const periods = [...text.matchAll(/^m_quota_reserve_anomaly_total\{period="(\w+)"\} 0$/gm)];
  expect(periods.map(([, period]) => period)).toEqual(["daily", "monthly"]);
  const mutations = [...text.matchAll(/^m_turn_mutation_total\{op="(\w+)",result="(\w+)"\} 0$/gm)];
  expect(mutations).toHaveLength(3 * 6);
  expect(text).toContain("m_credits_overflow_total 0");
  expect(text).not.toMatch(/^m_(stream_failed|quota_preflight|provider_errors)_total\b/m);
  expect(text).not.toContain('"other"');
});

test("a gauge moved up and down returns to its start value", async () => {
  const metrics = createMetrics("m");
  metrics.add("active_streams", {}, 1);
  metrics.add("active_streams", {}, -1);
  expect(await metrics.render()).toContain("m_active_streams 0");
});

test.each([
  ["outside a closed list", { result: "exploded" }],
  ["missing", {}],
])("a label value %s becomes other", async (_name, labels) => {
  const metrics = createMetrics("m");
  metrics.count("audit_emit", labels as { result: string });
  expect(await metrics.render()).toContain('m_audit_emit_total{result="other"} 1');
});

test.each([
  ["an id", "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f"],
  ["free text", "what is due this week?"],
  ["a long text", "x".repeat(65)],
])("%s is never learned as a label value", async (_name, value) => {
  const metrics = createMetrics("m");
  metrics.count("image_turns", { model: value });
  expect(await metrics.render()).toContain('m_image_turns_total{model="other"} 1');
});

test("a label learns at most 200 values", async () => {
  const metrics = createMetrics("m");
  for (let at = 0; at < 300; at += 1) metrics.count("image_turns", { model: `m${at}` });
  const text = await metrics.render();
  expect(text.match(/^m_image_turns_total\{/gm)).toHaveLength(201);
  expect(text).toContain('m_image_turns_total{model="other"} 100');
});

test("recording never throws, whatever the name, labels and value", async () => {
  const metrics = createMetrics("m");
  const before = (await metrics.render()).split("\n").filter((line) => line.startsWith("# TYPE"));
  fc.assert(
    fc.property(
      fc.oneof(fc.constantFrom(...Object.keys(metricTable)), fc.string()),
      fc.oneof(fc.dictionary(fc.string(), fc.anything()), fc.constant(undefined)),
      fc.double(),
      (name, labels, value) => {
        const call = [name, labels, value] as [never, never, never];
        metrics.count(...call);
        metrics.observe(...call);
        metrics.set(...call);
        metrics.add(...call);
      },
    ),
  );
  const after = (await metrics.render()).split("\n").filter((line) => line.startsWith("# TYPE"));
  expect(after).toEqual(before);
});

test("every metric has a help text and a valid name", () => {
  for (const [name, spec] of Object.entries(metricTable)) {
    expect(name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(name).not.toMatch(/_total$/);
    expect(spec.help).not.toBe("");
  }
});

test("the lag sampler records at its interval and can be stopped", async () => {
  let resolve = (): void => {};
  const sampled = new Promise<void>((done) => {
    resolve = done;
  });
  const metrics = createMetrics("m");
  const stop = sampleEventLoopLag({ ...metrics, observe: () => resolve() });
  await sampled;
  stop();
});

test("the source of the table names no id as a label", () => {
  const source = readFileSync(new URL("../../src/telemetry/metric-names.ts", import.meta.url), "utf8");
  expect(source).not.toMatch(/\b(tenant|user|chat|turn|request)(_id)?:/);
});
