import type { IncomingMessage, ServerResponse } from "node:http";
import type { Api, Ending, ReadRequest } from "../formats/format.ts";
import type { Capture } from "../play/capture.ts";
import type { Gates } from "../play/gates.ts";
import { Line } from "../play/line.ts";
import { play } from "../play/play.ts";
import type { Recorder } from "../play/recorder.ts";
import { silentSteps, streamSteps } from "../play/steps.ts";
import type { Program } from "../scenario/choice.ts";
import { isPlain, type Scenario, terminalOf, type Usage } from "../scenario/scenario.ts";
import { readBody } from "./body.ts";

export interface Stage {
  readonly program: Program;
  readonly recorder: Recorder;
  readonly gates: Gates;
  /** Answers given so far, for ids. */
  answers: number;
}

/** Answers a call of a model API as the chosen scenario says (providers.md §11). */
export const answerModelCall = async (
  stage: Stage,
  api: Api,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  const header = request.headers["x-sim-scenario"];
  const chosen = stage.program.chooseBeforeBody(typeof header === "string" ? header : undefined);
  await wait(chosen?.accept_delay_ms);
  const body = await readBody(request);
  const capture = stage.recorder.record(request, response, body);
  try {
    const read = api.read(body);
    const scenario = chosen ?? stage.program.chooseByText(read.lastUserText);
    if (chosen === null) await wait(scenario.accept_delay_ms);
    capture.scenario = scenario.name ?? null;
    stage.answers += 1;
    await perform(stage, api, read, scenario, new Line(response, capture, scenario), capture);
  } finally {
    capture.scenarioOver();
  }
};

const perform = async (
  stage: Stage,
  api: Api,
  read: ReadRequest,
  scenario: Scenario,
  line: Line,
  capture: Capture,
): Promise<void> => {
  const { gates } = stage;
  if (scenario.gate !== undefined) await gates.pass(scenario.gate, line.gone);
  if (scenario.header_delay_ms !== undefined) await line.pause(scenario.header_delay_ms);
  const headers = scenario.headers ?? {};
  if (isPlain(scenario)) {
    const status = scenario.http_status ?? 200;
    const body = scenario.http_body ?? api.failure(status, "The simulated provider refuses.");
    const isText = typeof body === "string";
    line.head(status, { "content-type": isText ? "text/plain" : "application/json", ...headers });
    await line.write(isText ? body : JSON.stringify(body));
    line.end();
    return;
  }
  const format = api.format(read, stage.answers);
  const ending = endingOf(scenario, read);
  const playing = { scenario, format, ending, offered: read.offered };
  const playOn = scenario.on_abort === "continue";
  if (!read.streams) {
    const whole = await play(silentSteps(playing), line, gates, { playOn });
    if (!whole) return;
    const { status, body } = format.whole(ending);
    line.head(status, { "content-type": "application/json", ...headers });
    await line.write(JSON.stringify(body));
    line.end();
    return;
  }
  line.head(200, { "content-type": "text/event-stream", "cache-control": "no-cache", ...headers });
  if (await play(streamSteps(playing), line, gates, { playOn })) {
    capture.endedByServer();
    line.end();
  }
};

const wait = async (ms: number | undefined): Promise<void> => {
  if (ms !== undefined && ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
};

const zero: Usage = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_input_tokens: 0,
  cache_write_input_tokens: 0,
  reasoning_tokens: 0,
};

const endingOf = (scenario: Scenario, read: ReadRequest): Ending => ({
  terminal: terminalOf(scenario),
  usage: usageOf(scenario, read),
  citations: scenario.citations ?? [],
  error: {
    code: scenario.error?.code ?? "server_error",
    message: scenario.error?.message ?? "The simulated model failed.",
  },
  incompleteReason: scenario.incomplete_reason ?? "max_output_tokens",
});

const usageOf = ({ usage }: Scenario, read: ReadRequest): Usage | null => {
  if (usage === "absent") return null;
  if (usage === "zero") return zero;
  return { ...zero, input_tokens: 50 * Math.max(1, read.messages), output_tokens: 12, ...usage };
};
