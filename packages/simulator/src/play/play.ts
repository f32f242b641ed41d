import type { Gates } from "./gates.ts";
import type { Line } from "./line.ts";
import type { Step } from "./steps.ts";

/** Neighbouring events are joined up to about this size. */
const MAX_JOINED = 1_048_576;

/**
 * Does the steps in order until they end, the scenario breaks the connection, or the client leaves (with
 * `playOn` it is played on into the void). True when it came to its end with the connection still there.
 */
export async function play(
  steps: Iterable<Step>,
  line: Line,
  gates: Gates,
  options: { readonly playOn?: boolean } = {},
): Promise<boolean> {
  const pending = new Pending(line);
  const pacer = new Pacer();
  const left = (): boolean => line.isGone && options.playOn !== true;
  for (const step of steps) {
    if (step.kind === "send") {
      pending.add(step.bytes, step.deltas);
      if (!line.joins || pending.size > MAX_JOINED) await pending.flush();
    } else if (step.kind === "pace") {
      const ms = pacer.next(step.ms);
      if (ms > 0) await pending.flush();
      if (ms > 0) await line.pause(ms);
    } else {
      await pending.flush();
      if (step.kind === "wait") await line.pause(step.ms);
      else if (step.kind === "drop") await line.drop();
      else await stand(step, line, gates);
      if (step.kind === "hang" || step.kind === "drop") return false;
    }
    if (left()) return false;
  }
  await pending.flush();
  return !line.isGone;
}

const stand = async (
  step: Extract<Step, { kind: "gate" | "hang" }>,
  line: Line,
  gates: Gates,
): Promise<void> => {
  line.flush();
  await (step.kind === "hang" ? line.gone : gates.pass(step.name, line.gone));
};

/** Events not written yet. */
class Pending {
  readonly #line: Line;
  #parts: (string | Buffer)[] = [];
  #deltas = 0;
  size = 0;

  constructor(line: Line) {
    this.#line = line;
  }

  add(bytes: string | Buffer, deltas: number): void {
    this.#parts.push(bytes);
    this.#deltas += deltas;
    this.size += bytes.length;
  }

  async flush(): Promise<void> {
    if (this.#parts.length === 0) return;
    const parts = this.#parts;
    const deltas = this.#deltas;
    this.#parts = [];
    this.#deltas = 0;
    this.size = 0;
    await this.#line.write(join(parts), deltas);
  }
}

const join = (parts: readonly (string | Buffer)[]): string | Buffer =>
  parts.every((part) => typeof part === "string")
    ? parts.join("")
    : Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));

/** Keeps a rate: a late delta does not make the following ones late. */
class Pacer {
  #due: number | null = null;

  /** ms until the next one is due; not above 0 when it is. */
  next(ms: number): number {
    const now = performance.now();
    this.#due = (this.#due ?? now) + ms;
    return this.#due - now;
  }
}
