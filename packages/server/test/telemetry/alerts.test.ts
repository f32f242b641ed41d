import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { metricTable } from "../../src/telemetry/metric-names.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";

const root = new URL("../../../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
}
const { groups }: { groups: { rules: Rule[] }[] } = parse(read("deploy/prometheus/alerts.yaml"));
const rules = groups.flatMap((group) => group.rules);

const suffixes = { counter: /_total$/, histogram: /_bucket$/, gauge: /$/ } as const;

/** The series of an expression, with the labels it selects by. */
const seriesOf = (expr: string): { name: string; labels: string[] }[] =>
  [...expr.matchAll(/mini_chat_(\w+)(?:\{([^}]*)\})?/g)].map(([, name = "", selector = ""]) => ({
    name,
    labels: [...selector.matchAll(/(\w+)=/g)].map(([, label = ""]) => label),
  }));

describe("alerts (ops.md §10)", () => {
  it.each(rules)("$alert asks for metrics that exist, by labels they have", ({ expr }) => {
    const series = seriesOf(expr);
    expect(series.length).toBeGreaterThan(0);
    for (const { name, labels } of series) {
      const found = Object.entries(metricTable).find(
        ([metric, { type }]) => suffixes[type].test(name) && name.replace(suffixes[type], "") === metric,
      );
      expect(found, name).toBeDefined();
      expect(Object.keys(found?.[1].labels ?? {}), name).toEqual(expect.arrayContaining(labels));
    }
  });

  const increases = rules.flatMap(({ alert, expr }) =>
    [...expr.matchAll(/increase\(mini_chat_(\w+)(?:\{(\w+)=~?"([^"]*)"\})?/g)].map(
      ([, name = "", label = "", values = ""]) => ({ alert, name, label, values }),
    ),
  );
  it.each(increases)("$alert: $name is there before its first count", async ({ name, label, values }) => {
    const scrape = await createMetrics("mini_chat").render();
    for (const value of values.split("|")) {
      const selector = label === "" ? "" : `[{,]${label}="${value}"`;
      expect(scrape).toMatch(new RegExp(`^mini_chat_${name}${selector}.* 0$`, "m"));
    }
  });

  it("each has an entry in the runbook, and the runbook no other", () => {
    const entries = [...read("docs/runbook.md").matchAll(/^## (\w+)$/gm)].map(([, name]) => name);
    expect(entries.sort()).toEqual(rules.map(({ alert }) => alert).sort());
    expect(rules.every(({ labels }) => ["warning", "critical"].includes(labels.severity))).toBe(true);
  });
});
