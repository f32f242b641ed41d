/** Null = fine, else what is wrong, in words for operators. Throwing counts as failing. */
export type Check = () => Promise<string | null> | string | null;

export interface HealthReport {
  readonly status: "healthy" | "degraded";
  /** RFC 3339; when the state was determined. */
  readonly timestamp: string;
  readonly reasons: readonly string[];
}

export interface ReadinessReport {
  readonly ready: boolean;
  /** `ok`, or what is wrong, by name of the check. */
  readonly checks: Readonly<Record<string, string>>;
}

export interface ReadinessOptions {
  /** Failures in a row that make the process not ready; default 1. */
  readonly failures?: number;
  /** Reported, but the process stays ready (policy never loaded, ops.md §4). */
  readonly informational?: boolean;
}

/** Health of this process as the parts of it report (ops.md §4). Degraded never changes readiness. */
export interface Health {
  registerReadiness(name: string, check: Check, options?: ReadinessOptions): void;
  /** A condition that degrades without making the process not ready. */
  registerDegradation(name: string, check: Check): void;
  /** Cached for 15 s. */
  health(): Promise<HealthReport>;
  readiness(): Promise<ReadinessReport>;
}

const cacheMs = 15_000;
const checkTimeoutMs = 1_000;

/** Runs one check, at most one second; whatever goes wrong is an answer too. */
const run = async (check: Check): Promise<string | null> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve("no answer within 1 second"), checkTimeoutMs);
  });
  try {
    return await Promise.race([Promise.resolve().then(check), late]);
  } catch {
    // The text of the error may name hosts or credentials; it belongs in the log of the check.
    return "check failed";
  } finally {
    clearTimeout(timer);
  }
};

interface ReadinessEntry {
  readonly check: Check;
  readonly options: ReadinessOptions;
  failed: number;
}

/** Without checks it is healthy and ready. */
export function createHealth(now: () => number = () => Date.now()): Health {
  const readiness = new Map<string, ReadinessEntry>();
  const degradations = new Map<string, Check>();
  let cached: { readonly at: number; readonly report: Promise<HealthReport> } | undefined;
  const determine = async (): Promise<HealthReport> => {
    const reasons = (await Promise.all([...degradations.values()].map(run))).filter(
      (reason) => reason !== null,
    );
    return {
      status: reasons.length === 0 ? "healthy" : "degraded",
      timestamp: new Date(now()).toISOString(),
      reasons,
    };
  };
  return {
    registerReadiness: (name, check, options = {}) => readiness.set(name, { check, options, failed: 0 }),
    registerDegradation: (name, check) => degradations.set(name, check),
    health: () => {
      if (cached === undefined || now() - cached.at >= cacheMs) cached = { at: now(), report: determine() };
      return cached.report;
    },
    readiness: async () => {
      const results = await Promise.all(
        [...readiness].map(async ([name, entry]) => ({ name, ...(await judge(entry)) })),
      );
      return {
        ready: results.every(({ ready }) => ready),
        checks: Object.fromEntries(results.map(({ name, text }) => [name, text])),
      };
    },
  };
}

const judge = async (entry: ReadinessEntry): Promise<{ ready: boolean; text: string }> => {
  const reason = await run(entry.check);
  entry.failed = reason === null ? 0 : entry.failed + 1;
  const tolerated = entry.options.informational === true || entry.failed < (entry.options.failures ?? 1);
  return { ready: tolerated, text: reason ?? "ok" };
};
