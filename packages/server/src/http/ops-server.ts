import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import type { Config } from "../config/schema.ts";
import type { Secret } from "../config/secret.ts";
import { AppError } from "../errors.ts";
import type { Logger } from "../telemetry/log.ts";
import { type Metrics, metricsContentType } from "../telemetry/metrics.ts";
import { type ApiServer, createBaseServer, queryOf } from "./base.ts";
import type { Health } from "./health.ts";
import { registerHealthRoutes } from "./health-routes.ts";
import { closeGently, type Listening, listen } from "./listen.ts";

export interface OpsServerOptions {
  readonly config: Pick<Config, "server" | "metrics">;
  readonly health: Health;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Registers admin and notify routes; guard them with `requireToken`. */
  readonly register?: (ops: ApiServer) => void;
  readonly translateError?: (error: unknown) => AppError | undefined;
}

export interface OpsServer {
  /** Binds `server.ops_bind_address`; null when that is null: there is no ops listener. */
  listen(): Promise<Listening | null>;
  close(): Promise<void>;
  readonly app: ApiServer;
}

/** The listener for operators (ops.md §4): health with reasons, metrics, admin. Never public, never rate-limited. */
export function createOpsServer(options: OpsServerOptions): OpsServer {
  const { server, metrics: settings } = options.config;
  const app = createBaseServer({
    logger: options.logger,
    metrics: options.metrics,
    bodyLimitBytes: server.body_limit_bytes,
    translateError: options.translateError,
  });
  app.addHook("preValidation", async (request) => {
    request.query = queryOf(request);
  });
  registerHealthRoutes(app, options.health, { prefix: "", withReasons: true });
  if (settings.enabled) {
    app.get("/metrics", async (_request, reply) =>
      reply.type(metricsContentType).send(await options.metrics.render()),
    );
  }
  options.register?.(app);
  return {
    app,
    listen: async () => (server.ops_bind_address === null ? null : listen(app, server.ops_bind_address)),
    close: () => closeGently(app),
  };
}

// Both sides are hashed, so that neither content nor length shows in the time the comparison takes.
const same = (one: string, other: string): boolean => {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
};

/**
 * A hook that admits requests with this bearer token: 401 `unauthorized` without it, 404
 * `route_not_found` when none is configured (ops.md §2.2).
 */
export const requireToken =
  (token: Secret | undefined) =>
  async (request: FastifyRequest): Promise<void> => {
    if (token === undefined)
      throw new AppError("route_not_found", { detail: "There is nothing at this path." });
    const match = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? "");
    if (match?.[1] === undefined || !same(match[1], token.reveal())) {
      throw new AppError("unauthorized", { detail: "The token is not valid." });
    }
  };
