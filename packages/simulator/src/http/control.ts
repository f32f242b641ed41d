import type { IncomingMessage, ServerResponse } from "node:http";
import type { CapturedRequest } from "../play/capture.ts";
import { InvalidInput } from "../scenario/checks.ts";
import { parseScenarios } from "../scenario/parse.ts";
import type { Stage } from "./answer.ts";
import { readBody, sendJson } from "./body.ts";

/** Routes below `/__sim` (providers.md §11.4). */
export const control = async (
  stage: Stage,
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
): Promise<void> => {
  const { program, recorder, gates } = stage;
  const route = `${request.method} ${path}`;
  const query = new URLSearchParams((request.url ?? "").split("?")[1] ?? "");
  const gate = /^POST \/gates\/([^/]+)$/.exec(route)?.[1];
  if (gate !== undefined) {
    gates.open(decodeURIComponent(gate));
    return sendJson(response, 200, { open: gates.openNames });
  }
  switch (route) {
    case "POST /scenarios": {
      const scenarios = parseScenarios(await readBody(request), "");
      program.enqueue(scenarios);
      return sendJson(response, 200, { waiting: program.waiting });
    }
    case "DELETE /scenarios":
      program.clear();
      return sendJson(response, 200, { waiting: 0 });
    case "GET /requests": {
      const last = Number(query.get("last") ?? 100);
      return sendJson(response, 200, { requests: recorder.requests.slice(-last).map(requestView) });
    }
    case "DELETE /requests":
      recorder.clear();
      return sendJson(response, 200, { requests: 0 });
    case "GET /state":
      return sendJson(response, 200, stateOf(stage));
    case "POST /reset":
      reset(stage);
      return sendJson(response, 200, stateOf(stage));
    case "GET /health":
      return sendJson(response, 200, { status: "ok" });
    default:
      throw new InvalidInput(`${route} is no control route`);
  }
};

export interface SimulatorState {
  readonly waiting_scenarios: number;
  readonly requests: number;
  readonly active: number;
  readonly open_gates: readonly string[];
  readonly waiting_gates: readonly string[];
}

export const stateOf = ({ program, recorder, gates }: Stage): SimulatorState => ({
  waiting_scenarios: program.waiting,
  requests: recorder.count,
  active: recorder.active.size,
  open_gates: gates.openNames,
  waiting_gates: gates.waitingNames,
});

export const reset = ({ program, recorder, gates }: Stage): void => {
  program.clear();
  program.fallback = null;
  recorder.clear();
  gates.reset();
};

const requestView = (request: CapturedRequest): object => ({
  id: request.id,
  method: request.method,
  path: request.path,
  query: request.query,
  headers: request.headers,
  body: request.body,
  received_at: request.receivedAt,
  scenario: request.scenario,
  deltas_sent: request.deltasSent,
  closed_at: request.closedAt,
  closed_by: request.closedBy,
});
