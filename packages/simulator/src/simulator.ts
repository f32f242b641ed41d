import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createSimulatorServer } from "./http/server.ts";
import type { CapturedRequest } from "./play/capture.ts";
import { parseScenario } from "./scenario/parse.ts";
import type { Scenario } from "./scenario/scenario.ts";
import { type Held, parseStateChange, type SimulatorState, type StateChange } from "./state.ts";
import { World } from "./world.ts";

/** A running simulator in this process; the functions do what the control API does (providers.md §11.4). */
export interface Simulator {
  readonly port: number;
  /** `http://host:port` */
  readonly url: string;
  /** Each answers one model call, in the order the calls arrive. Throws `InvalidInput` on what is no scenario. */
  enqueue(...scenarios: readonly Scenario[]): void;
  clearScenarios(): void;
  /** Answers every text that no row of the table knows (providers.md §11.2); null for the usual answer. */
  setDefault(scenario: Scenario | null): void;
  /** Answers every request for a thread summary; null for the usual answer. */
  setSummary(scenario: Scenario | null): void;
  /** The latest 1,000 requests to the provider APIs, oldest first. */
  requests(): readonly CapturedRequest[];
  clearRequests(): void;
  /** The first request, so far or from now on, that satisfies the predicate; rejects when the simulator closes. */
  waitForRequest(predicate?: (request: CapturedRequest) => boolean): Promise<CapturedRequest>;
  /** Opens a gate for good: for those who wait there and those who come later. */
  open(gate: string): void;
  /** Resolves as soon as an answer waits at this gate. */
  arrived(gate: string): Promise<void>;
  state(): SimulatorState;
  /** The files and vector stores that were not deleted. */
  held(): Held;
  setState(change: StateChange): void;
  /** As new; answers under way go on. */
  reset(): void;
  /** Closes every connection. */
  close(): Promise<void>;
}

export interface SimulatorOptions {
  /** Default `127.0.0.1`. */
  readonly host?: string;
  /** Default 0: any free one. */
  readonly port?: number;
}

// A load test connects all at once.
const BACKLOG = 4_096;

/** Starts a simulator; rejects when the address is taken. */
export const startSimulator = async (options: SimulatorOptions = {}): Promise<Simulator> => {
  const { host = "127.0.0.1", port = 0 } = options;
  const world = new World();
  const server = createSimulatorServer(world);
  server.listen({ host, port, backlog: BACKLOG });
  await once(server, "listening");
  const address = server.address() as AddressInfo;
  const name = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    port: address.port,
    url: `http://${name}:${address.port}`,
    ...controls(world),
    close: async () => {
      world.recorder.shutDown();
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
};

const controls = (world: World): Omit<Simulator, "port" | "url" | "close"> => ({
  enqueue: (...scenarios) => world.program.enqueue(scenarios.map((scenario) => parseScenario(scenario, ""))),
  clearScenarios: () => world.program.clear(),
  setDefault: (scenario) => world.change({ default_scenario: scenario && parseScenario(scenario, "") }),
  setSummary: (scenario) => world.change({ summary_scenario: scenario && parseScenario(scenario, "") }),
  requests: () => world.recorder.requests,
  clearRequests: () => world.recorder.clear(),
  waitForRequest: (predicate = () => true) => world.recorder.waitFor(predicate),
  open: (gate) => world.gates.open(gate),
  arrived: (gate) => world.gates.arrived(gate),
  state: () => world.state(),
  held: () => world.held(),
  setState: (change) => world.change(parseStateChange(change, "")),
  reset: () => world.reset(),
});
