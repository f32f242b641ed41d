import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Sink } from "../outbox/sink.ts";
import { PluginError } from "./plugin-error.ts";

/** What a sink of one file exports by default; see docs/publishers.md. */
export type SinkFactory = (options: Readonly<Record<string, unknown>>) => ModuleSink | Promise<ModuleSink>;

/** A `Sink` with defaults: deliveries one by one, nothing to close. */
export type ModuleSink = Pick<Sink, "publish"> & Partial<Pick<Sink, "grouping" | "close">>;

const isSink = (value: unknown): value is ModuleSink =>
  typeof value === "object" && value !== null && "publish" in value && typeof value.publish === "function";

/**
 * Loads a third party's sink from a file, relative to the working directory. `key` is the configuration
 * key that names it; every failure says it. Throws `PluginError`.
 */
export const loadModuleSink = async (
  key: string,
  path: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Sink> => {
  const fail = (what: string, cause?: unknown): never => {
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    throw new PluginError(`${key}: ${path} ${what}${why}`, { cause });
  };
  const loaded: { default?: unknown } = await import(pathToFileURL(resolve(path)).href).catch((error) =>
    fail("cannot be loaded", error),
  );
  const factory = loaded.default;
  if (typeof factory !== "function") return fail("has no function as its default export");
  let sink: unknown;
  try {
    sink = await factory(options);
  } catch (error) {
    return fail("threw while making the sink", error);
  }
  if (!isSink(sink)) return fail("made no object with a publish function");
  const { grouping = "single" } = sink;
  if (grouping !== "single" && grouping !== "batch") {
    return fail("has a grouping other than 'single' and 'batch'");
  }
  return {
    grouping,
    publish: (deliveries, signal) => sink.publish(deliveries, signal),
    close: async () => {
      await sink.close?.();
    },
  };
};
