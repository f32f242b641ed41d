import pino from "pino";
import { prettyLine } from "./log-pretty.ts";
import { cleanFields, cleanText } from "./log-redact.ts";

/** Severity of a line; `critical` is reserved for broken invariants, each of which also has a metric (ops.md §6). */
export type LogLevel = "debug" | "info" | "warn" | "error" | "critical";

type Write = (fields: object, msg: string) => void;

/**
 * Structured log: one JSON object per line. Fields are ids, codes and numbers, never text a user or a
 * model wrote; what slips through is redacted by key and cut (ops.md §6).
 */
export interface Logger {
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
  readonly critical: Write;
  /** The same log with these fields on every line; with a level, it writes from that on whatever is configured. */
  child(fields: object, level?: LogLevel): Logger;
}

const levels = { debug: 20, info: 30, warn: 40, error: 50, critical: 60 } as const;

/** Where lines go; each `write` gets one line with its line feed. */
export interface LogDestination {
  write(line: string): void;
}

export interface LogBase {
  readonly service?: string;
  readonly version: string;
  readonly instance_id: string;
  readonly role: string;
}

/**
 * The log of this process on stdout, JSON or human-readable by `format`. Every line carries `ts`,
 * `level`, `msg` and the base fields. Writing is synchronous, so the last lines survive a crash.
 */
export function createLogger(
  config: { readonly level: LogLevel; readonly format: "json" | "pretty" },
  base: LogBase,
  destination: LogDestination = pino.destination({ fd: 1, sync: true }),
): Logger {
  const target: LogDestination =
    config.format === "pretty" ? { write: (line) => destination.write(prettyLine(line)) } : destination;
  const root = pino<keyof typeof levels>(
    {
      level: config.level,
      customLevels: levels,
      useOnlyCustomLevels: true,
      base: { service: "mini-chat", ...base },
      messageKey: "msg",
      timestamp: () => `,"ts":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      // Errors arrive already cleaned; the serializer of pino would undo that.
      serializers: { err: (err: unknown) => err },
    },
    target,
  );
  return wrap(root);
}

const wrap = (sink: pino.Logger<keyof typeof levels>): Logger => {
  const at =
    (level: LogLevel): Write =>
    (fields, msg) => {
      if (sink.isLevelEnabled(level)) sink[level](cleanFields(fields), cleanText(msg));
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    critical: at("critical"),
    child: (fields, level) =>
      wrap(sink.child(cleanFields(fields), level === undefined ? undefined : { level })),
  };
};

const ignore: Write = () => {};

/** A log that keeps nothing. */
export const noLogger: Logger = {
  debug: ignore,
  info: ignore,
  warn: ignore,
  error: ignore,
  critical: ignore,
  child: () => noLogger,
};
