import { createParser } from "eventsource-parser";
import type { ProviderEvent } from "../packages/server/src/providers/contract.ts";
import { createResponsesTranslator } from "../packages/server/src/providers/openai-responses/events.ts";
import { SseReader } from "../packages/server/src/providers/sse.ts";
import { type Summary, summarise } from "./support.ts";

const DELTAS = 20_000;
const ROUNDS = 21;

/** A delta as OpenAI sends it, about 280 bytes. */
const frame = (at: number): string =>
  `event: response.output_text.delta\ndata: ${JSON.stringify({
    type: "response.output_text.delta",
    sequence_number: at,
    item_id: "msg_68f0c0ffee0123456789abcdef0123456789",
    output_index: 0,
    content_index: 0,
    delta: ` word${at % 100}`,
    logprobs: [],
    obfuscation: "aB3dE6gH9",
  })}\n\n`;

const cut = (bytes: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) =>
    bytes.subarray(at * size, (at + 1) * size),
  );

/** Our way: own reader, texts of plain deltas cut out. */
const own = (reads: readonly Buffer[]): number => {
  let count = 0;
  let events: ProviderEvent[] = [];
  const translator = createResponsesTranslator({ exposeReasoning: false });
  const reader = new SseReader((name, data) => translator.translate(name, data, events));
  for (const read of reads) {
    events = [];
    reader.feed(read);
    count += events.length;
  }
  reader.end();
  return count;
};

/** Own reader, every event parsed whole. */
const ownWithJson = (reads: readonly Buffer[]): number => {
  let count = 0;
  const reader = new SseReader((_name, data) => {
    if (typeof JSON.parse(data).delta === "string") count += 1;
  });
  for (const read of reads) reader.feed(read);
  reader.end();
  return count;
};

/** The kept library, every event parsed whole. */
const library = (reads: readonly Buffer[]): number => {
  let count = 0;
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parser = createParser({
    onEvent: ({ data }) => {
      if (typeof JSON.parse(data).delta === "string") count += 1;
    },
  });
  for (const read of reads) parser.feed(decoder.decode(read, { stream: true }));
  return count;
};

const measure = (way: (reads: readonly Buffer[]) => number, reads: readonly Buffer[]): Summary => {
  const samples: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const begin = performance.now();
    const count = way(reads);
    samples.push(((performance.now() - begin) / DELTAS) * 1_000);
    if (count !== DELTAS) throw new Error(`${count} of ${DELTAS} deltas came out`);
  }
  return summarise(samples);
};

/**
 * Milliseconds to turn 1,000 provider deltas into events: reads of 64 KiB (a burst) and of one delta
 * each, by our reader, by it with `JSON.parse`, and by eventsource-parser with `JSON.parse`.
 */
export async function run(): Promise<object> {
  const frames = Array.from({ length: DELTAS }, (_, at) => Buffer.from(frame(at)));
  const shapes = { burst: cut(Buffer.concat(frames), 65_536), single: frames };
  const ways = { own, own_with_json: ownWithJson, eventsource_parser: library };
  const result: Record<string, Record<string, Summary>> = {};
  for (const [shape, reads] of Object.entries(shapes)) {
    result[shape] = Object.fromEntries(
      Object.entries(ways).map(([name, way]) => [name, measure(way, reads)]),
    );
  }
  return { unit: "ms per 1,000 deltas", deltas: DELTAS, ...result };
}
