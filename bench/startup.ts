import { join } from "node:path";
import { startChild } from "./harness/child.ts";
import { familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { serverScript, withDirectory } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const DIRECTORIES = 5;
const NEXT_STARTS = 3;

interface Start {
  /** ms from spawning the process to its line `ready`, seen up to 2 ms late. */
  readonly ready: number;
  readonly stopped: number;
}

/** `mini-chat serve` as after a download: no configuration file, its own database and simulator. */
const start = async (dir: string, run: string): Promise<Start> => {
  const begin = performance.now();
  const args = [
    "serve",
    `--database.data_dir=${join(dir, "data")}`,
    "--server.bind_address=127.0.0.1:0",
    "--server.ops_bind_address=127.0.0.1:0",
    // Time for a load balancer to notice, which says nothing here.
    "--shutdown_ready_delay_secs=0",
  ];
  const child = startChild(serverScript, args, { log: join(dir, `${run}.log`) });
  try {
    await child.printed(/^\{.*"msg":"ready"/m);
    const ready = performance.now() - begin;
    const stopping = performance.now();
    await child.stop();
    return { ready, stopped: performance.now() - stopping };
  } finally {
    await child.stop();
  }
};

/**
 * Time from spawning `mini-chat serve` to ready on the embedded database: the first start, which makes
 * the database, and the next ones. The file cache is warm; installing the packages is not part of it.
 */
export const run = async (): Promise<object> => {
  const machine = watchMachine(() => familyCpuMs(process.pid));
  const first: Start[] = [];
  const next: Start[] = [];
  for (let round = 0; round < DIRECTORIES; round += 1) {
    await withDirectory(async (dir) => {
      first.push(await start(dir, "first"));
      for (let at = 0; at < NEXT_STARTS; at += 1) next.push(await start(dir, `next-${at}`));
    });
  }
  const of = (starts: readonly Start[], part: keyof Start): object =>
    rounded(summarise(starts.map((one) => one[part])));
  return {
    first_start_ms: of(first, "ready"),
    next_start_ms: of(next, "ready"),
    stop_ms: of(next, "stopped"),
    machine: machine(),
  };
};
