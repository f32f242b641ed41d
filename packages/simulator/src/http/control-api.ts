import type { IncomingMessage, ServerResponse } from "node:http";
import type { Capture } from "../play/capture.ts";
import { parseScenarios } from "../scenario/parse.ts";
import { parseStateChange } from "../state.ts";
import type { World } from "../world.ts";
import { ApiError, parseJson, readBody, sendJson } from "./exchange.ts";

export const CONTROL_PREFIX = "/__sim/";

type Action = (
  world: World,
  body: () => Promise<unknown>,
  query: URLSearchParams,
) => Promise<object> | object;

/** The control API (providers.md §11.4). Its own requests are not captured. */
const actions: Readonly<Record<string, Action>> = {
  "POST scenarios": async (world, body) => {
    world.program.enqueue(parseScenarios(await body(), ""));
    return { waiting_scenarios: world.program.waiting };
  },
  "DELETE scenarios": (world) => {
    world.program.clear();
    return { waiting_scenarios: 0 };
  },
  "GET requests": (world, _body, query) => {
    const last = Number(query.get("last") ?? Number.MAX_SAFE_INTEGER);
    if (!Number.isInteger(last) || last < 0)
      throw new ApiError(400, "invalid", "last must be a whole number");
    const shown = last === 0 ? [] : world.recorder.requests.slice(-last);
    return { requests: shown.map(captureView) };
  },
  "DELETE requests": (world) => {
    world.recorder.clear();
    return { requests: 0 };
  },
  "GET state": (world) => world.state(),
  "GET held": (world) => world.held(),
  "POST state": async (world, body) => {
    world.change(parseStateChange(await body(), ""));
    return world.state();
  },
  "POST reset": (world) => {
    world.reset();
    return world.state();
  },
  "GET health": () => ({ status: "ok" }),
};

export const answerControl = async (
  world: World,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const url = new URL(request.url ?? "/", "http://simulator");
  const name = url.pathname.slice(CONTROL_PREFIX.length);
  const gate = /^gates\/([^/]+)$/.exec(name)?.[1];
  if (request.method === "POST" && gate !== undefined) {
    world.gates.open(decodeURIComponent(gate));
    sendJson(response, 200, { open_gates: world.gates.openNames });
    return;
  }
  const key = `${request.method} ${name}`;
  const action = Object.hasOwn(actions, key) ? actions[key] : undefined;
  if (action === undefined) throw new ApiError(404, "not_found", `There is no ${key} in the control API.`);
  const body = async (): Promise<unknown> => parseJson(await readBody(request));
  sendJson(response, 200, await action(world, body, url.searchParams));
};

const captureView = (capture: Capture): object => ({
  id: capture.id,
  method: capture.method,
  path: capture.path,
  query: capture.query,
  headers: capture.headers,
  body: capture.body,
  received_at: capture.receivedAt,
  scenario: capture.scenario,
  deltas_sent: capture.deltasSent,
  deltas_sent_after_abort: capture.deltasSentAfterAbort,
  closed_at: capture.closedAt,
  closed_by: capture.closedBy,
});
