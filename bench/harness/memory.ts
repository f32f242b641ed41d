import { existsSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { residentBytes } from "./measure.ts";
import type { Stack } from "./stack.ts";

export interface Memory {
  /** What the operating system has given. */
  readonly resident: number;
  readonly heap_total: number;
  readonly heap_used: number;
  readonly external: number;
}

/** What the server, preloaded with `memory-probe.mjs`, holds once it has collected its garbage, in bytes. */
export const memoryOf = async (stack: Stack, file: string): Promise<Memory> => {
  rmSync(file, { force: true });
  stack.server.signal("SIGUSR2");
  const giveUpAt = performance.now() + 15_000;
  while (!existsSync(file)) {
    if (performance.now() > giveUpAt) throw new Error("the server does not tell its memory");
    await sleep(10);
  }
  const told: unknown = JSON.parse(readFileSync(file, "utf8"));
  const of = (name: string): number =>
    typeof told === "object" && told !== null ? Number(Reflect.get(told, name)) : Number.NaN;
  return {
    resident: residentBytes(stack.server.pid),
    heap_total: of("heapTotal"),
    heap_used: of("heapUsed"),
    external: of("external"),
  };
};
