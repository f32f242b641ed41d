import { randomUUID } from "node:crypto";
import { type App, startApp } from "../app.ts";
import { needsSimulator } from "../config/defaults.ts";
import { processEnv, secretSource } from "../config/env.ts";
import type { Config } from "../config/schema.ts";
import { isPageBuilt } from "../page/built.ts";
import { createLogger, type Logger } from "../telemetry/log.ts";
import { version } from "../version.ts";
import { announcement } from "./announcement.ts";
import type { Arguments } from "./arguments.ts";
import { configurationOf } from "./configuration.ts";

interface BuiltInSimulator {
  readonly port: number;
  close(): Promise<void>;
}

/** `mini-chat serve`: serves until a signal, then drains (ops.md §9). Resolves with the exit code. */
export const serve = async (given: Arguments): Promise<number> => {
  const simulator = await simulatorFor(given);
  try {
    const { config, warnings } = configurationOf(given, simulator?.port ?? null);
    const instanceId = randomUUID();
    const logger = createLogger(config.log, { version, instance_id: instanceId, role: config.role });
    for (const { key, message } of warnings) logger.warn({ key }, message);
    let app: App | undefined;
    const end = awaitEnd(logger, {
      again: () => leaveAtOnce(app),
      failed: () => void app?.stop({ hurried: true }),
    });
    const env = processEnv();
    const from = { secrets: secretSource(env), variable: (name: string) => env[name] };
    app = await startApp({ config, logger, instanceId, given: from });
    announce(given, config, app.api?.port, simulator);
    await end.asked;
    await app.stop({ hurried: end.code() !== 0 });
    const code = end.code();
    logger.info({ exit_code: code }, "stopped");
    endSoon(code);
    return code;
  } finally {
    await simulator?.close();
  }
};

const lingerMs = 1_000;

const leaveAtOnce = async (app: App | undefined): Promise<never> => {
  await app?.leave();
  process.exit(1);
};

/** Ends the process if something that was forgotten still keeps it. */
const endSoon = (code: number): void => {
  setTimeout(() => process.exit(code), lingerMs).unref();
};

/** Without a file and without a provider key, answers come from the simulator, which only then is loaded. */
const simulatorFor = async (given: Arguments): Promise<BuiltInSimulator | null> => {
  if (given.config !== undefined || !needsSimulator(processEnv())) return null;
  const { startSimulator } = await import("@mini-chat/simulator");
  return startSimulator();
};

/** For people, on standard error: the log goes to standard output. */
const announce = (
  given: Arguments,
  config: Config,
  port: number | undefined,
  simulator: BuiltInSimulator | null,
): void => {
  if (given.config !== undefined || port === undefined) return;
  const simulatorPort = simulator?.port ?? null;
  console.error(announcement({ config, port, pageBuilt: isPageBuilt(), simulatorPort }));
};

/** A signal that follows another so soon is its echo: a terminal and npm both pass Ctrl-C on. */
const echoMs = 1_000;

interface End {
  /** Resolves at the first SIGTERM, SIGINT or SIGHUP, and at an error nobody caught. */
  readonly asked: Promise<void>;
  /** 1 once there was an error nobody caught, else 0. */
  code(): 0 | 1;
}

/**
 * Watches for what ends the process. `failed` is told of every error nobody caught, `again` of a signal
 * that comes 1 s or more after the last one; one more ends the process on the spot.
 */
const awaitEnd = (
  logger: Logger,
  on: { readonly again: () => Promise<never>; readonly failed: () => void },
): End => {
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  let code: 0 | 1 = 0;
  let stopping = false;
  let leaving = false;
  let heededAt = Number.NEGATIVE_INFINITY;
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - heededAt < echoMs) return;
      heededAt = now;
      if (leaving) process.exit(1);
      leaving = stopping;
      stopping = true;
      logger.info({ signal }, leaving ? "stopping at once" : "stopping");
      if (leaving) void on.again();
      else resolve();
    });
  }
  const onBug = (error: unknown): void => {
    logger.critical({ err: error }, "uncaught error");
    code = 1;
    stopping = true;
    on.failed();
    resolve();
  };
  process.on("uncaughtException", onBug);
  process.on("unhandledRejection", onBug);
  return { asked, code: () => code };
};
