import { chatFormat } from "../formats/chat.ts";
import type { Answer, Ending, Format } from "../formats/format.ts";
import { messagesFormat } from "../formats/messages.ts";
import { type Api, type ModelRequest, readModelRequest } from "../formats/request.ts";
import { responsesFormat } from "../formats/responses.ts";
import { Line } from "../play/line.ts";
import { play } from "../play/play.ts";
import { type Playing, silentSteps, streamSteps } from "../play/steps.ts";
import { isPlain, type Scenario, type ToolName, terminalOf } from "../scenario/scenario.ts";
import { usageOf } from "../scenario/usage.ts";
import { documentAnswer } from "../storage/answer.ts";
import { placeholders } from "../storage/placeholders.ts";
import type { World } from "../world.ts";
import { type Exchange, errorBody, parseJson } from "./exchange.ts";

const formats: Readonly<Record<Api, (answer: Answer) => Format>> = {
  responses: responsesFormat,
  chat: chatFormat,
  messages: messagesFormat,
};

/**
 * Answers a model call with the scenario chosen before its body was read, else with the one for its text;
 * resolves when the scenario is over.
 */
export const answerModelCall = async (
  world: World,
  api: Api,
  early: Scenario | null,
  exchange: Exchange,
): Promise<void> => {
  const { capture, response, params, body } = exchange;
  const request = readModelRequest(api, parseJson(body), params[0] ?? null);
  const chosen =
    early ?? world.program.chooseByRequest(request, () => documentAnswer(world.files, world.stores, request));
  capture.scenario = chosen.name ?? null;
  const line = new Line(response, capture, chosen);
  if (early === null && chosen.accept_delay_ms !== undefined) await line.pause(chosen.accept_delay_ms);
  if (chosen.gate !== undefined) await world.gates.pass(chosen.gate, line.gone);
  if (chosen.header_delay_ms !== undefined) await line.pause(chosen.header_delay_ms);
  if (isPlain(chosen)) {
    await sendPlain(world, chosen, line);
    return;
  }
  const scenario = filled(chosen, placeholders(world.files, world.stores, request));
  const usage = usageOf(scenario, request.inputMessages);
  const { model, usageWanted, offered } = request;
  const format = formats[api]({ id: world.nextAnswerId(), model, usage, usageWanted });
  const playing = { scenario, format, offered, ending: endingOf(scenario, request) };
  if (request.stream) await sendStream(world, playing, line);
  else await sendWhole(world, api, playing, line);
};

const sendStream = async (world: World, playing: Playing, line: Line): Promise<void> => {
  const { scenario } = playing;
  const head = { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" };
  line.head(200, { ...head, ...scenario.headers });
  const playOn = scenario.on_abort === "continue";
  if (await play(streamSteps(playing), line, world.gates, { playOn })) line.end();
};

const sendWhole = async (world: World, api: Api, playing: Playing, line: Line): Promise<void> => {
  const { scenario, format, ending } = playing;
  if (!(await play(silentSteps(playing), line, world.gates))) return;
  const bytes = Buffer.from(JSON.stringify(format.whole(ending)));
  // A whole answer without an end is half an answer.
  const cut = ending.terminal === "none" ? bytes.subarray(0, bytes.length >> 1) : bytes;
  const length = cut === bytes ? { "content-length": bytes.length } : {};
  // Only a response object of the Responses API can say that it failed.
  const status = ending.terminal === "failed" && api !== "responses" ? 500 : 200;
  line.head(status, { "content-type": "application/json", ...length, ...scenario.headers });
  await line.write(cut);
  line.end();
};

const sendPlain = async (world: World, scenario: Scenario, line: Line): Promise<void> => {
  const { http_status: status = 200, http_body: body, headers } = scenario;
  const wire = body ?? errorBody(status, "simulated_failure", "A programmed failure.");
  const bytes = Buffer.from(typeof wire === "string" ? wire : JSON.stringify(wire));
  const type = typeof wire === "string" ? "text/plain; charset=utf-8" : "application/json";
  line.head(status, { "content-type": type, "content-length": bytes.length, ...headers });
  if (scenario.hang_after === 0) await play([{ kind: "hang" }], line, world.gates);
  else if (scenario.drop_after === 0) await line.drop();
  else await line.write(bytes);
  line.end();
};

/** Fills placeholders wherever file ids can stand. */
const filled = (scenario: Scenario, fill: <T>(value: T) => T): Scenario => ({
  ...scenario,
  ...(scenario.events === undefined ? {} : { events: fill(scenario.events) }),
  ...(scenario.citations === undefined ? {} : { citations: fill(scenario.citations) }),
});

const endingOf = (scenario: Scenario, request: ModelRequest): Ending => ({
  terminal: terminalOf(scenario),
  citations: (scenario.citations ?? []).filter((citation) => mayCite(scenario, citation, request)),
  error: {
    code: scenario.error?.code ?? "server_error",
    message: scenario.error?.message ?? "The simulated model failed.",
  },
  incompleteReason: scenario.incomplete_reason ?? "max_output_tokens",
});

const citedBy: Readonly<Record<string, ToolName>> = {
  url_citation: "web_search",
  file_citation: "file_search",
};

/** A model cannot cite what a tool would have found that was left out. */
const mayCite = (
  scenario: Scenario,
  { type }: Record<string, unknown>,
  { offered }: ModelRequest,
): boolean => {
  const tool = typeof type === "string" ? citedBy[type] : undefined;
  const used = (scenario.events ?? []).some((event) => "tool" in event && event.tool === tool);
  return tool === undefined || offered.has(tool) || !used;
};
