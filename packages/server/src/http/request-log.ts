import type { FastifyBaseLogger } from "fastify";
import type { Logger } from "../telemetry/log.ts";

/** `request.log`: our log, with the further methods the framework expects. */
export type RequestLog = Logger & FastifyBaseLogger;

type Sink = (fields: object, msg: string) => void;

// The framework calls `log.warn(error, text)`, `log.error({ err }, text)` and `log.info(text)`.
const lenient =
  (sink: Sink) =>
  (first: unknown, msg?: unknown): void => {
    if (typeof first === "string") sink({}, first);
    else if (first instanceof Error) sink({ err: first }, typeof msg === "string" ? msg : first.message);
    else sink(typeof first === "object" && first !== null ? first : {}, typeof msg === "string" ? msg : "");
  };

const ignore = (): void => {};

/** Makes a log usable by the framework: `fatal` is `critical`, `trace` is dropped. */
export const requestLog = (logger: Logger): RequestLog => {
  const log = {
    level: "debug",
    trace: ignore,
    silent: ignore,
    debug: lenient(logger.debug),
    info: lenient(logger.info),
    warn: lenient(logger.warn),
    error: lenient(logger.error),
    fatal: lenient(logger.critical),
    critical: logger.critical,
    child: (fields: object) => requestLog(logger.child(fields)),
  };
  return log;
};
