import { cpuMs, familyCpuMs, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { type KillResult, killOne } from "./outbox/kill.ts";
import { poolOfOne } from "./outbox/pool-of-one.ts";
import { sinkDown } from "./outbox/sink-down.ts";

/** Ten minutes become half a minute; `outbox-sink-down` takes them whole. */
const TIME_SCALE = 20;

/** The last one is the lease of usage events as configured. */
const leasesMs = [5_000, 5_000, 5_000, 30_000];

/**
 * What goes wrong: `kill -9` of one of two workers at load, a sink that is down for a while, and a process
 * that has one connection for everything. Fails when a message is lost, comes out of order, or comes
 * twice without a kill.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server, dir) => {
    const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
    const pool = await poolOfOne(server.url);
    const sink = await sinkDown(server.url, TIME_SCALE);
    const kills: KillResult[] = [];
    for (const [round, leaseMs] of leasesMs.entries()) {
      kills.push(await killOne(server.url, dir, round, leaseMs));
    }
    const overLease = kills.map(({ recovered_after_ms: ms, lease_ms: lease }) => ms - lease);
    return {
      kill_of_a_worker: { rounds: kills, worst_ms_over_lease: Math.max(...overLease) },
      sink_down: sink,
      pool_of_one: pool,
      machine: machine(),
    };
  });
