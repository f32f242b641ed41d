import { Counter, Gauge, Histogram, Registry } from "prom-client";
import {
  type CounterName,
  type GaugeName,
  type HistogramName,
  type LabelRule,
  type LabelsOf,
  type MetricName,
  type MetricSpec,
  metricTable,
} from "./metric-names.ts";

/** Recording never throws and never awaits; label values outside their list become `other` (ops.md §5). */
export interface Metrics {
  /** Adds `by` (default 1) to a counter. */
  count<N extends CounterName>(name: N, labels?: LabelsOf<N>, by?: number): void;
  /** Records a sample of a histogram, in the unit its name ends with. */
  observe<N extends HistogramName>(name: N, labels: LabelsOf<N>, value: number): void;
  /** Sets a gauge. */
  set<N extends GaugeName>(name: N, labels: LabelsOf<N>, value: number): void;
  /** Moves a gauge by `delta`, which may be negative. */
  add<N extends GaugeName>(name: N, labels: LabelsOf<N>, delta: number): void;
  /** The exposition text of Prometheus. */
  render(): Promise<string>;
}

/** `Content-Type` of `render()`. */
export const metricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// A bound on every label that is learned: a bug that feeds it free text costs 200 series, not the memory.
const maxLearnedValues = 200;
const uuidInside = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;

type LabelValues = Readonly<Record<string, string>>;

/** Maps label values to what may be exported. One per registry: it remembers the values it has learned. */
const createLabelGuard = (): ((spec: MetricSpec, labels: LabelValues | undefined) => LabelValues) => {
  const learned = new Map<string, Set<string>>();
  const admit = (label: string, rule: LabelRule, value: string): string => {
    if (!(rule instanceof RegExp)) return rule.includes(value) ? value : "other";
    const known = learned.get(label) ?? new Set();
    if (known.has(value)) return value;
    if (known.size >= maxLearnedValues || !rule.test(value) || uuidInside.test(value)) return "other";
    learned.set(label, known.add(value));
    return value;
  };
  return (spec, labels) => {
    const clean: Record<string, string> = {};
    for (const [label, rule] of Object.entries(spec.labels)) {
      clean[label] = admit(label, rule, String(labels?.[label] ?? "other"));
    }
    return clean;
  };
};

/** Every set of values the labels can have; none where a list is open. */
const labelSets = (rules: MetricSpec["labels"]): readonly LabelValues[] =>
  Object.entries(rules).reduce<readonly LabelValues[]>(
    (sets, [label, rule]) =>
      rule instanceof RegExp
        ? []
        : sets.flatMap((labels) => rule.map((value) => ({ ...labels, [label]: value }))),
    [{}],
  );

interface Instruments {
  readonly counters: Map<MetricName, Counter>;
  readonly histograms: Map<MetricName, Histogram>;
  readonly gauges: Map<MetricName, Gauge>;
}

const createInstruments = (prefix: string, registry: Registry): Instruments => {
  const instruments: Instruments = { counters: new Map(), histograms: new Map(), gauges: new Map() };
  for (const key of Object.keys(metricTable)) {
    const name = key as MetricName;
    const spec: MetricSpec = metricTable[name];
    const common = { help: spec.help, labelNames: Object.keys(spec.labels), registers: [registry] };
    if (spec.type === "counter") {
      const counter = new Counter({ ...common, name: `${prefix}_${name}_total` });
      // A series that is born with its first count has no increase: the alert on it would miss that one.
      for (const labels of labelSets(spec.labels)) counter.inc(labels, 0);
      instruments.counters.set(name, counter);
    } else if (spec.type === "gauge") {
      instruments.gauges.set(name, new Gauge({ ...common, name: `${prefix}_${name}` }));
    } else {
      const buckets = [...(spec.buckets ?? [])];
      instruments.histograms.set(name, new Histogram({ ...common, buckets, name: `${prefix}_${name}` }));
    }
  }
  return instruments;
};

/** The metrics of this process, named `{prefix}_{name}`. Counters whose labels have closed lists begin at 0. */
export function createMetrics(prefix: string): Metrics {
  const registry = new Registry();
  const { counters, histograms, gauges } = createInstruments(prefix, registry);
  const guard = createLabelGuard();
  // The guard reads the table, so even an untyped caller with a wrong name or value does no harm.
  const record = (
    name: MetricName,
    labels: LabelValues | undefined,
    value: number,
    write: (clean: LabelValues) => void,
  ): void => {
    if (!Number.isFinite(value)) return;
    try {
      write(guard(metricTable[name], labels));
    } catch {
      // Nothing a request should fail for.
    }
  };
  return {
    count: (name, labels, by = 1) => {
      if (by > 0) record(name, labels, by, (clean) => counters.get(name)?.inc(clean, by));
    },
    observe: (name, labels, value) =>
      record(name, labels, value, (clean) => histograms.get(name)?.observe(clean, value)),
    set: (name, labels, value) => record(name, labels, value, (clean) => gauges.get(name)?.set(clean, value)),
    add: (name, labels, delta) => record(name, labels, delta, (clean) => gauges.get(name)?.inc(clean, delta)),
    render: () => registry.metrics(),
  };
}

const ignore = (): void => {};

/** Metrics that keep nothing. */
export const noMetrics: Metrics = {
  count: ignore,
  observe: ignore,
  set: ignore,
  add: ignore,
  render: async () => "",
};

const lagSampleMs = 100;

/** Samples `event_loop_lag_ms` every 100 ms; returns the function that stops it. */
export const sampleEventLoopLag = (metrics: Metrics): (() => void) => {
  let expected = performance.now() + lagSampleMs;
  const timer = setInterval(() => {
    const now = performance.now();
    metrics.observe("event_loop_lag_ms", {}, Math.max(0, now - expected));
    expected = now + lagSampleMs;
  }, lagSampleMs);
  timer.unref();
  return () => clearInterval(timer);
};
