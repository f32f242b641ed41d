import { parseArgs } from "node:util";
import { runChaos } from "./run.ts";

/** `npm run chaos`: prints what happened as JSON; exit 0 all well, 1 a promise was broken, 2 usage. */
const usage = "usage: npm run chaos -- [--seed N] [--seconds N] [--restart fast|crash]";

const parse = () => {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: "string", default: "1" },
        seconds: { type: "string", default: "180" },
        restart: { type: "string", default: "fast" },
      },
    });
    const [seed, seconds] = [Number(values.seed), Number(values.seconds)];
    const { restart } = values;
    if (!Number.isSafeInteger(seed) || !(seconds >= 5 && seconds <= 86_400)) return null;
    return restart === "fast" || restart === "crash" ? ({ seed, seconds, restart } as const) : null;
  } catch {
    return null;
  }
};

const chosen = parse();
if (chosen === null) {
  console.error(usage);
  process.exitCode = 2;
} else {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
  const report = await runChaos({
    ...chosen,
    workers: 3,
    producers: 2,
    killEveryMs: 1_000,
    pauseEveryMs: 5_000,
    leaseMs: 3_000,
  });
  console.log(JSON.stringify(report, null, 2));
  process.exitCode = report.ok ? 0 : 1;
}
