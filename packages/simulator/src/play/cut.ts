import type { Scenario } from "../scenario/scenario.ts";

/** Cuts the bytes of one write into the pieces that are written. */
export type Cutter = (bytes: Buffer) => Iterable<Buffer>;

const MAX_RANDOM_PIECE = 48;

/** How a scenario cuts its body; null when nothing has to be cut and writes may be joined. */
export const cutterOf = (scenario: Scenario): Cutter | null => {
  const { chunking } = scenario;
  if (scenario.slow_loris !== undefined || chunking === "byte") return single;
  if (chunking === undefined) return null;
  if (chunking === "event") return (bytes) => [bytes];
  return randomly(seeded(chunking === "random" ? 1 : chunking.random));
};

function* single(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += 1) yield bytes.subarray(at, at + 1);
}

const randomly = (random: () => number): Cutter =>
  function* pieces(bytes) {
    let at = 0;
    while (at < bytes.length) {
      const end = at + 1 + Math.floor(random() * MAX_RANDOM_PIECE);
      yield bytes.subarray(at, end);
      at = end;
    }
  };

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
const seeded = (seed: number): (() => number) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
};
