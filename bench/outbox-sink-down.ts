import { cpuMs, familyCpuMs, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { sinkDown } from "./outbox/sink-down.ts";

/** A sink that is down for ten minutes, with the back-off of production; takes twelve. */
export const run = (): Promise<object> =>
  withDatabase(async (server) => {
    const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
    return { sink_down: await sinkDown(server.url, 1), machine: machine() };
  });
