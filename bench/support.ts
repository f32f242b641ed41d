/** What a row of measurements says; all values have the unit of the samples. */
export interface Summary {
  readonly n: number;
  readonly median: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly min: number;
  readonly max: number;
  /** Median absolute deviation: the spread, unmoved by a few outliers. */
  readonly mad: number;
}

/** Nearest-rank percentile of ascending samples. */
const rank = (sorted: readonly number[], share: number): number =>
  sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;

const ascending = (samples: readonly number[]): number[] => samples.toSorted((a, b) => a - b);

/** Summarises measurements; at least one is needed. */
export const summarise = (samples: readonly number[]): Summary => {
  if (samples.length === 0) throw new RangeError("no samples");
  const sorted = ascending(samples);
  const median = rank(sorted, 0.5);
  return {
    n: sorted.length,
    median,
    p50: median,
    p95: rank(sorted, 0.95),
    p99: rank(sorted, 0.99),
    min: rank(sorted, 0),
    max: rank(sorted, 1),
    mad: rank(ascending(sorted.map((value) => Math.abs(value - median))), 0.5),
  };
};

/**
 * A size of a benchmark, or the share `BENCH_SCALE` asks for (0–1): a short run shows that everything
 * works, its figures mean nothing.
 */
export const scaled = (size: number, least = 1): number =>
  Math.max(least, Math.round(size * Math.min(1, Number(process.env["BENCH_SCALE"] ?? 1))));
