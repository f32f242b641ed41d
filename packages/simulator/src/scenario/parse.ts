import {
  anything,
  type Check,
  count,
  either,
  integer,
  list,
  milliseconds,
  object,
  oneOf,
  record,
  recordOf,
  refuse,
  text,
} from "./checks.ts";
import { malformations, type Scenario, type ScenarioEvent, terminals, toolNames } from "./scenario.ts";

type Kind<K extends string> = Extract<ScenarioEvent, { readonly [P in K]: unknown }>;

const delay_ms = milliseconds;

/** By the member that tells the kinds apart. */
const eventChecks: Readonly<Record<string, Check<ScenarioEvent>>> = {
  text: object<Kind<"text">>({ text, delay_ms }, "text"),
  reasoning: object<Kind<"reasoning">>({ reasoning: text, delay_ms }, "reasoning"),
  tool: object<Kind<"tool">>(
    {
      tool: oneOf(...toolNames),
      phase: oneOf("start", "progress", "done"),
      results: list(record),
      outputs: list(record),
      delay_ms,
    },
    "tool",
    "phase",
  ),
  event: object<Kind<"event">>(
    {
      event: text,
      data: either<Readonly<Record<string, unknown>> | string>("must be an object or a string", record, text),
      delay_ms,
    },
    "event",
  ),
  raw: object<Kind<"raw">>({ raw: text, delay_ms }, "raw"),
  wait_for: object<Kind<"wait_for">>({ wait_for: text, delay_ms }, "wait_for"),
};

const event: Check<ScenarioEvent> = (value, path) => {
  const given = record(value, path);
  const check = Object.entries(eventChecks).find(([kind]) => given[kind] !== undefined)?.[1];
  return check === undefined
    ? refuse(path, `must have one of ${Object.keys(eventChecks).join(", ")}`)
    : check(given, path);
};

const usage = either<NonNullable<Scenario["usage"]>>(
  "must be zero, absent or counters: input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, reasoning_tokens",
  oneOf("zero", "absent"),
  object({
    input_tokens: count,
    output_tokens: count,
    cache_read_input_tokens: count,
    cache_write_input_tokens: count,
    reasoning_tokens: count,
  }),
);

const scenario = object<Scenario>({
  name: text,
  events: list(event),
  terminal: oneOf(...terminals),
  usage,
  citations: list(record),
  error: object({ code: text, message: text }),
  incomplete_reason: text,
  http_status: integer(200, 599),
  http_body: anything,
  headers: recordOf(text),
  gate: text,
  accept_delay_ms: milliseconds,
  header_delay_ms: milliseconds,
  event_delay_ms: milliseconds,
  hang_after: count,
  drop_after: either<NonNullable<Scenario["drop_after"]>>(
    "must be a number of events, { events } or { bytes }",
    count,
    object<{ events: number }>({ events: count }, "events"),
    object<{ bytes: number }>({ bytes: count }, "bytes"),
  ),
  slow_loris: either<NonNullable<Scenario["slow_loris"]>>(
    "must be a number of ms or { interval_ms }",
    milliseconds,
    object<{ interval_ms: number }>({ interval_ms: milliseconds }, "interval_ms"),
  ),
  chunking: either<NonNullable<Scenario["chunking"]>>(
    "must be event, byte, random or { random: seed }",
    oneOf("event", "byte", "random"),
    object<{ random: number }>({ random: count }, "random"),
  ),
  malformed: either<NonNullable<Scenario["malformed"]>>(
    `must be one or a list of ${malformations.join(", ")}`,
    oneOf(...malformations),
    list(oneOf(...malformations)),
  ),
  trailing_events: list(event),
  repeat: object<NonNullable<Scenario["repeat"]>>(
    { count: integer(0, 10_000_000), bytes: integer(1, 1_000_000), interval_ms: milliseconds },
    "count",
    "bytes",
  ),
  on_abort: oneOf("stop", "continue"),
});

/** Reads a scenario of the control API; throws `InvalidInput` naming the field that is not as documented. */
export const parseScenario: Check<Scenario> = (value, path) => scenario(value, path);

/** One scenario or a list of them. */
export const parseScenarios: Check<readonly Scenario[]> = (value, path) =>
  Array.isArray(value) ? list(scenario)(value, path === "" ? "scenarios" : path) : [scenario(value, path)];
