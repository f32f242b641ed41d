import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { responsesApi } from "../formats/responses.ts";
import type { CapturedRequest } from "../play/capture.ts";
import { Gates } from "../play/gates.ts";
import { Recorder } from "../play/recorder.ts";
import { InvalidInput } from "../scenario/checks.ts";
import { Program } from "../scenario/choice.ts";
import type { Scenario } from "../scenario/scenario.ts";
import { answerModelCall, type Stage } from "./answer.ts";
import { sendJson } from "./body.ts";
import { control, reset, type SimulatorState, stateOf } from "./control.ts";

/** A provider that does what it is told. */
export interface Simulator {
  readonly port: number;
  /** `http://HOST:PORT`. */
  readonly url: string;
  /** Answers the next calls, one scenario each, whatever they ask. */
  enqueue(...scenarios: readonly Scenario[]): void;
  clearScenarios(): void;
  /** Answers texts no built-in scenario knows; null = the built-in default. */
  setDefault(scenario: Scenario | null): void;
  requests(): readonly CapturedRequest[];
  clearRequests(): void;
  /** The first request, so far or from now on, that satisfies the predicate. */
  waitForRequest(predicate?: (request: CapturedRequest) => boolean): Promise<CapturedRequest>;
  /** Opens a gate that streams wait at. */
  open(gate: string): void;
  /** Resolves as soon as some stream waits at this gate. */
  arrived(gate: string): Promise<void>;
  state(): SimulatorState;
  reset(): void;
  /** Breaks off what is being answered and stops. */
  close(): Promise<void>;
}

const prefixes = /^(?:\/openai)?(?:\/v1)?(?:\/deployments\/[^/]+)?/;

/** Starts a simulator; without options on a free port of the loopback. */
export const startSimulator = async (
  options: { readonly host?: string; readonly port?: number } = {},
): Promise<Simulator> => {
  const { host = "127.0.0.1", port = 0 } = options;
  const stage: Stage = { program: new Program(), recorder: new Recorder(), gates: new Gates(), answers: 0 };
  const server = createServer((request, response) => {
    serve(stage, request, response).catch((error: unknown) => fail(response, error));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const bound = (server.address() as AddressInfo).port;
  const { program, recorder, gates } = stage;
  return {
    port: bound,
    url: `http://${host}:${bound}`,
    enqueue: (...scenarios) => program.enqueue(scenarios),
    clearScenarios: () => program.clear(),
    setDefault: (scenario) => {
      program.fallback = scenario;
    },
    requests: () => recorder.requests,
    clearRequests: () => recorder.clear(),
    waitForRequest: (predicate = () => true) => recorder.waitFor(predicate),
    open: (gate) => gates.open(gate),
    arrived: (gate) => gates.arrived(gate),
    state: () => stateOf(stage),
    reset: () => reset(stage),
    close: async () => {
      recorder.shutDown();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
};

const serve = async (stage: Stage, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const path = (request.url ?? "/").replace(/\?.*$/, "");
  if (path.startsWith("/__sim/")) return control(stage, request, response, path.slice("/__sim".length));
  if (request.method === "POST" && path.replace(prefixes, "") === "/responses") {
    return answerModelCall(stage, responsesApi, request, response);
  }
  stage.recorder.record(request, response, null).scenarioOver();
  request.resume();
  sendJson(response, 404, { error: { message: `unknown path ${path}`, type: "invalid_request_error" } });
};

const fail = (response: ServerResponse, error: unknown): void => {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const status = error instanceof InvalidInput ? 400 : 500;
  sendJson(response, status, { error: { message: error instanceof Error ? error.message : String(error) } });
};
