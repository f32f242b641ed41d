import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { InvalidInput } from "../scenario/checks.ts";
import type { Scenario } from "../scenario/scenario.ts";
import type { World } from "../world.ts";
import { answerControl, CONTROL_PREFIX } from "./control-api.ts";
import { ApiError, type Exchange, errorBody, readBody, sendJson } from "./exchange.ts";
import { findRoute, type Match, routesOf } from "./routes.ts";
import { formSummary, isForm, readForm } from "./upload.ts";

// Longer than clients keep idle connections, so that it is never the simulator who surprises them.
const KEEP_ALIVE_MS = 75_000;

/** The simulator's HTTP server, not listening yet. */
export const createSimulatorServer = (world: World): Server => {
  const routes = routesOf(world);
  const server = createServer(
    // Scenarios are slower than any limit a server would set itself.
    {
      keepAliveTimeout: KEEP_ALIVE_MS,
      requestTimeout: 0,
      headersTimeout: 0,
      connectionsCheckingInterval: 60_000,
    },
    (request, response) => {
      // A client that left is noticed by `close`.
      response.on("error", () => {});
      void answer(world, routes, request, response);
    },
  );
  server.on("clientError", (_error, socket) => socket.destroy());
  return server;
};

const answer = async (
  world: World,
  routes: ReturnType<typeof routesOf>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
  try {
    if (path.startsWith(CONTROL_PREFIX)) await answerControl(world, request, response);
    else await answerProvider(world, findRoute(routes, request.method ?? "", path), request, response);
  } catch (error) {
    answerError(error, response);
  }
};

const answerProvider = async (
  world: World,
  match: Match | 404 | 405,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const choice = chooseEarly(world, match, request);
  const delay = choice.scenario?.accept_delay_ms;
  if (delay !== undefined) await acceptLater(response, delay);
  const body = await readBody(request).catch((error: unknown) => {
    if (error instanceof ApiError) throw error;
    // The client left before its request was complete, which is worth recording.
    return null;
  });
  const form = body === null ? null : await formOf(request, body);
  const capture = world.recorder.record(request, response, capturedBody(request, body, form));
  response.setHeader("x-request-id", `req_mock_${capture.id}`);
  try {
    if (typeof match === "number") throw noRoute(match, request);
    if (choice.error !== null) throw choice.error;
    if (body === null) return;
    const query = new URLSearchParams(capture.query);
    const exchange: Exchange = { request, response, capture, query, params: match.params, body, form };
    if (match.endpoint.kind === "model") await match.endpoint.answer(exchange, choice.scenario);
    else await match.endpoint.answer(exchange);
  } catch (error) {
    answerError(error, response);
  } finally {
    capture.scenarioOver();
  }
};

interface EarlyChoice {
  readonly scenario: Scenario | null;
  readonly error: InvalidInput | null;
}

/** Takes the scenario as the request arrives, so that the order of arrival is the order of the queue. */
const chooseEarly = (world: World, match: Match | 404 | 405, request: IncomingMessage): EarlyChoice => {
  if (typeof match === "number" || match.endpoint.kind !== "model") return { scenario: null, error: null };
  const header = request.headers["x-sim-scenario"];
  try {
    return { scenario: world.program.chooseBeforeBody(header?.toString()), error: null };
  } catch (error) {
    if (error instanceof InvalidInput) return { scenario: null, error };
    throw error;
  }
};

const acceptLater = (response: ServerResponse, ms: number): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      response.off("close", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    response.once("close", done);
  });

const formOf = async (request: IncomingMessage, body: Buffer): Promise<FormData | null> => {
  const type = request.headers["content-type"];
  return isForm(type) ? await readForm(body, type) : null;
};

const capturedBody = (request: IncomingMessage, body: Buffer | null, form: FormData | null): unknown => {
  if (form !== null) return formSummary(form);
  if (body === null || body.length === 0) return null;
  const text = body.toString("utf8");
  if (!/json/i.test(request.headers["content-type"] ?? "")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};

const noRoute = (status: 404 | 405, { method, url }: IncomingMessage): ApiError =>
  new ApiError(status, "not_found", `The simulator has no ${method} ${url}`);

const answerError = (error: unknown, response: ServerResponse): void => {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  if (error instanceof ApiError)
    sendJson(response, error.status, errorBody(error.status, error.code, error.message));
  else if (error instanceof InvalidInput)
    sendJson(response, 400, errorBody(400, "invalid_scenario", error.message));
  else
    sendJson(
      response,
      500,
      errorBody(500, "simulator_defect", error instanceof Error ? (error.stack ?? "") : ""),
    );
};
