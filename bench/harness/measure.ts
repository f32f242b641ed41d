import { readdirSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";
import type { Summary } from "../support.ts";

/** What a result keeps of a summary: three decimals are more than any of these figures deserves. */
export const rounded = (summary: Summary): Summary => ({
  n: summary.n,
  median: digits(summary.median),
  p50: digits(summary.p50),
  p95: digits(summary.p95),
  p99: digits(summary.p99),
  min: digits(summary.min),
  max: digits(summary.max),
  mad: digits(summary.mad),
});

export const digits = (value: number, places = 3): number => Number(value.toFixed(places));

/** Nanoseconds of a clock that all processes of the machine share. */
export const nowNs = (): bigint => process.hrtime.bigint();

const fieldsOf = (pid: number): { parent: number; ticks: number; ticksOfDead: number } | null => {
  try {
    // The command stands in parentheses and may hold spaces; the state follows it.
    const [, rest = ""] = /\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
    const fields = rest.split(" ").map(Number);
    const at = (index: number): number => fields[index] ?? 0;
    return { parent: at(1), ticks: at(11) + at(12), ticksOfDead: at(13) + at(14) };
  } catch {
    return null;
  }
};

// Of every Linux that Node runs on.
const tickMs = 10;

/** CPU time of a process so far, all its threads, user and system, in ms. */
export const cpuMs = (pid: number): number => (fieldsOf(pid)?.ticks ?? 0) * tickMs;

/** CPU time of a process with its children, those that ended included, in ms: PostgreSQL with its backends. */
export const familyCpuMs = (pid: number): number => {
  let ticks = 0;
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const fields = fieldsOf(Number(name));
    if (fields === null) continue;
    if (Number(name) === pid) ticks += fields.ticks + fields.ticksOfDead;
    else if (fields.parent === pid) ticks += fields.ticks;
  }
  return ticks * tickMs;
};

/** Resident memory of a process in bytes. */
export const residentBytes = (pid: number): number => {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib ?? Number.NaN) * 1024;
};

interface Ticks {
  readonly busy: number;
  readonly all: number;
}

const machineTicks = (): Ticks => {
  const line = readFileSync("/proc/stat", "utf8").split("\n", 1)[0] ?? "";
  // user nice system idle iowait irq softirq steal; what guests use is part of user.
  const fields = line.split(/\s+/).slice(1, 9).map(Number);
  const all = fields.reduce((sum, value) => sum + value, 0);
  return { busy: all - (fields[3] ?? 0) - (fields[4] ?? 0), all };
};

/** How busy the machine was while a benchmark ran: all figures in the light of this. */
export interface Machine {
  readonly load_before: number;
  readonly load_after: number;
  /** Share of the CPU time of all cores that anybody used. */
  readonly busy: number;
  /** Of that, CPU cores used by processes that are none of ours. */
  readonly cores_used_by_others: number;
}

/** Starts to watch; the result tells of the time since. `ownMs` reads the CPU time of our own processes. */
export const watchMachine = (ownMs: () => number): (() => Machine) => {
  const before = { ticks: machineTicks(), own: ownMs(), load: loadavg()[0] ?? 0, at: performance.now() };
  return () => {
    const ticks = machineTicks();
    const busy = ticks.busy - before.ticks.busy;
    const elapsed = performance.now() - before.at;
    return {
      load_before: digits(before.load, 2),
      load_after: digits(loadavg()[0] ?? 0, 2),
      busy: digits(busy / Math.max(1, ticks.all - before.ticks.all), 2),
      cores_used_by_others: digits(Math.max(0, busy * tickMs - (ownMs() - before.own)) / elapsed, 2),
    };
  };
};
