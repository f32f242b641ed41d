import type { Ending, Format, WireEvent } from "../formats/format.ts";
import { type Scenario, type ScenarioEvent, type ToolName, terminalOf } from "../scenario/scenario.ts";
import { encoderOf } from "./encode.ts";

/** One thing to do on the wire. */
export type Step =
  | { readonly kind: "send"; readonly bytes: string | Buffer; readonly deltas: number }
  | { readonly kind: "wait"; readonly ms: number }
  /** As `wait`, measured from the previous one of its kind and not from now, so that a rate is kept. */
  | { readonly kind: "pace"; readonly ms: number }
  | { readonly kind: "gate"; readonly name: string }
  | { readonly kind: "hang" }
  | { readonly kind: "drop" };

export interface Playing {
  readonly scenario: Scenario;
  readonly format: Format;
  readonly ending: Ending;
  readonly offered: ReadonlySet<ToolName>;
}

/** What the scenario sends and when, event by event, up to the end of the stream. */
export function* streamSteps(playing: Playing): Iterable<Step> {
  const { scenario, format, ending } = playing;
  const encode = encoderOf(scenario);
  const hasText = textCount(scenario) > 0;
  const send = (events: readonly WireEvent[], spoilt = false): Step[] =>
    events.map((event, at) => ({
      kind: "send",
      // Of several frames the last one is the delta, or the terminal event.
      bytes: encode(event, spoilt && at === events.length - 1),
      deltas: event.deltas,
    }));

  yield* send(format.open());
  const over = yield* playEvents(playing, send);
  if (over) return;
  if (terminalOf(scenario) !== "none") yield* send(format.end(ending), !hasText);
  for (const event of scenario.trailing_events ?? [])
    yield* entrySteps(event, event.delay_ms ?? 0, format, send);
}

type Send = (events: readonly WireEvent[], spoilt?: boolean) => Step[];

/** Plays `events` and `repeat`; true when the scenario breaks off in them. */
function* playEvents(playing: Playing, send: Send): Generator<Step, boolean> {
  const { scenario, format, offered } = playing;
  const spoiltText = textCount(scenario);
  let played = 0;
  let texts = 0;
  let broken = breakAfter(scenario, played);
  for (const event of scenario.events ?? []) {
    if (broken !== null) break;
    if ("tool" in event && !offered.has(event.tool)) continue;
    if ("text" in event) texts += 1;
    const delay = event.delay_ms ?? (played > 0 ? (scenario.event_delay_ms ?? 0) : 0);
    yield* entrySteps(event, delay, format, send, "text" in event && texts === spoiltText);
    if ("wait_for" in event) continue;
    played += 1;
    broken = breakAfter(scenario, played);
  }
  if (broken === null) broken = yield* playRepeat(playing, send, played);
  if (broken !== null) yield broken;
  return broken !== null;
}

/** So many deltas at most are made before the first of them is written. */
const BURST = 5_000;

/** Plays `repeat` after so many events; what it breaks off with, if it does. */
function* playRepeat(playing: Playing, send: Send, before: number): Generator<Step, Step | null> {
  const { scenario, format } = playing;
  const { count = 0, bytes = 1, interval_ms = 0 } = scenario.repeat ?? {};
  const filler = "lorem ".repeat(Math.ceil(bytes / 6)).slice(0, bytes);
  let done = 0;
  if (isBurst(scenario)) {
    // A step for each delta would cost more than the delta itself.
    const encode = encoderOf(scenario);
    while (done < count) {
      const deltas = Math.min(BURST, count - done);
      let text = "";
      for (let at = 0; at < deltas; at += 1) {
        for (const event of format.text(filler)) text += encode(event, false);
      }
      yield { kind: "send", bytes: text, deltas };
      done += deltas;
    }
    return null;
  }
  for (; done < count; done += 1) {
    if (interval_ms > 0 && before + done > 0) yield { kind: "pace", ms: interval_ms };
    yield* send(format.text(filler), done === count - 1);
    const broken = breakAfter(scenario, before + done + 1);
    if (broken !== null) return broken;
  }
  return null;
}

/** Whether nothing can happen between two deltas of `repeat`. */
const isBurst = ({ repeat, chunking, slow_loris, malformed, hang_after, drop_after }: Scenario): boolean =>
  (repeat?.interval_ms ?? 0) === 0 &&
  [chunking, slow_loris, malformed, hang_after, drop_after].every((field) => field === undefined);

function* entrySteps(
  event: ScenarioEvent,
  delay: number,
  format: Format,
  send: Send,
  spoilt = false,
): Iterable<Step> {
  if (delay > 0) yield { kind: "wait", ms: delay };
  if ("wait_for" in event) yield { kind: "gate", name: event.wait_for };
  else if ("raw" in event) yield { kind: "send", bytes: event.raw, deltas: 0 };
  else if ("text" in event) yield* send(format.text(event.text), spoilt);
  else if ("reasoning" in event) yield* send(format.reasoning(event.reasoning));
  else if ("tool" in event) yield* send(format.tool(event));
  else yield* send([format.custom(event)]);
}

const textCount = (scenario: Scenario): number =>
  (scenario.events ?? []).filter((event) => "text" in event).length + (scenario.repeat?.count ?? 0);

const breakAfter = (scenario: Scenario, played: number): Step | null => {
  const { hang_after, drop_after } = scenario;
  if (hang_after === played) return { kind: "hang" };
  const dropAfter = typeof drop_after === "object" && "events" in drop_after ? drop_after.events : drop_after;
  return dropAfter === played ? { kind: "drop" } : null;
};

/** The pauses and breaks of a scenario whose answer is not streamed: its time passes before the headers. */
export function* silentSteps(playing: Playing): Iterable<Step> {
  for (const step of streamSteps(playing)) if (step.kind !== "send") yield step;
}
