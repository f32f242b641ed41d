import cors from "@fastify/cors";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Actor } from "../auth/actor.ts";
import type { Config } from "../config/schema.ts";
import { AppError, shuttingDown } from "../errors.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type ApiServer, createBaseServer, queryOf, sendProblem } from "./base.ts";
import { exchangeOf } from "./exchange.ts";
import type { Health } from "./health.ts";
import { registerPublicHealth } from "./health-routes.ts";
import { closeGently, type Listening, listen } from "./listen.ts";
import { documentApi, type OpenApi } from "./openapi-document.ts";
import { createRateLimiter, type RateLimiter, rateLimitHeaders } from "./rate-limit.ts";

export type { ApiServer } from "./base.ts";

export interface HttpServerOptions {
  readonly config: Pick<Config, "server" | "url_prefix">;
  readonly authenticator: { authenticate(authorization: string | undefined): Promise<Actor> };
  readonly licenseGate: { isLicensed(actor: Actor): Promise<boolean> };
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** While true, routes with `refuseWhileDraining` answer 503 `shutting_down`. */
  readonly isDraining: () => boolean;
  /** Registers the operations below `{prefix}/v1`. */
  readonly register: (api: ApiServer) => void;
  /** Serves `/health`, `/healthz` and `/readyz` (api.md §9) where given. */
  readonly health?: Health;
  /** Registers what lives at the root, such as the page; paths are absolute. */
  readonly registerRoot?: (root: ApiServer) => void;
  /** Turns a foreign error (of the database, say) into a refusal; undefined = opaque 500. */
  readonly translateError?: (error: unknown) => AppError | undefined;
}

export interface HttpServer {
  /** Binds `server.bind_address`; resolves with the actual port. */
  listen(): Promise<Listening>;
  /** Stops accepting, closes idle connections, waits for the others. */
  close(): Promise<void>;
  /** For `inject` in tests; call `ready()` first. */
  readonly app: ApiServer;
  /** The OpenAPI document; the server must be ready. */
  openapi(): object;
}

/** The public listener: API below `{prefix}/v1`, the routes of api.md §9 around it. */
export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { config } = options;
  const limiter = createRateLimiter(config.server.rate_limit);
  const root = `${config.url_prefix}/v1`;
  const app = createBaseServer({
    logger: options.logger,
    metrics: options.metrics,
    bodyLimitBytes: config.server.body_limit_bytes,
    translateError: options.translateError,
    // Nothing is taken from a bucket there; the headers are on every answer (api.md §1.3).
    headersWithoutRoute: (path) =>
      path === root || path.startsWith(`${root}/`) ? rateLimitHeaders(limiter.look("none")) : {},
  });
  allowOrigins(app, config.server.cors);
  const document: OpenApi = documentApi(app, config);
  if (options.health !== undefined) registerPublicHealth(app, options.health, config.url_prefix);
  options.registerRoot?.(app);
  app.register(
    (api: ApiServer, _options, done) => {
      guardApi(api, limiter, options);
      options.register(api);
      done();
    },
    { prefix: root },
  );
  return {
    app,
    openapi: () => document.render(),
    listen: () => listen(app, config.server.bind_address),
    close: () => closeGently(app),
  };
}

const exposedHeaders = [
  "x-request-id",
  "traceparent",
  "Location",
  "Retry-After",
  "RateLimit-Limit",
  "RateLimit-Remaining",
  "RateLimit-Reset",
  "Cache-Control",
];

const allowOrigins = (app: ApiServer, settings: Config["server"]["cors"]): void => {
  if (!settings.enabled) return;
  app.register(cors, {
    origin: settings.allowed_origins.includes("*") ? "*" : settings.allowed_origins,
    credentials: settings.allow_credentials,
    maxAge: settings.max_age_secs,
    methods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
    exposedHeaders,
    // Strict mode would answer 400 without a problem document.
    strictPreflight: false,
  });
};

/** What every operation goes through before its handler, in the order of turns.md §4.2 rows 1–2. */
const guardApi = (api: ApiServer, limiter: RateLimiter, options: HttpServerOptions): void => {
  const timeoutMs = options.config.server.request_timeout_secs * 1000;
  // A stream has no time limit of its own, but its body has: it is in flight until then.
  const bodyClocks = new WeakMap<FastifyRequest, () => void>();
  api.addHook("onRequest", async (request, reply) => {
    const { config } = request.routeOptions;
    reply.headers(rateLimitHeaders(limiter.look(bucketOf(request))));
    refuseEmptySegments(request);
    const stopClock = limitTime(request, reply, config.rawBody ? null : timeoutMs);
    if (config.stream) bodyClocks.set(request, stopClock);
    await admit(request, reply, limiter, options);
    if (config.refuseWhileDraining && options.isDraining()) {
      reply.header("connection", "close");
      throw shuttingDown();
    }
  });
  api.addHook("preValidation", async (request) => {
    bodyClocks.get(request)?.();
    request.query = queryOf(request);
  });
};

const bucketOf = (request: FastifyRequest): string => `${request.method} ${request.routeOptions.url ?? ""}`;

/** The router lets `/chats/` match `/chats/:id`; to a client that path does not exist (api.md §1.1). */
const refuseEmptySegments = (request: FastifyRequest): void => {
  const { params } = request;
  if (typeof params === "object" && params !== null && Object.values(params).includes("")) {
    throw new AppError("route_not_found", { detail: "There is nothing at this path." });
  }
};

/** Authentication, licence, rate (api.md §1.2–1.3). */
const admit = async (
  request: FastifyRequest,
  reply: FastifyReply,
  limiter: RateLimiter,
  { authenticator, licenseGate }: HttpServerOptions,
): Promise<void> => {
  const exchange = exchangeOf(request.raw);
  const route = bucketOf(request);
  const actor = await authenticator.authenticate(request.headers.authorization);
  // Only behind authentication: strangers must not take the places of callers.
  exchange.release = limiter.enter(route);
  exchange.actor = actor;
  request.log = request.log.child({
    tenant_id: actor.tenantId,
    user_id: actor.userId,
    requester_type: actor.subjectType,
  });
  if (!(await licenseGate.isLicensed(actor))) {
    throw new AppError("feature_not_licensed", { detail: "The feature ai_chat is not licensed." });
  }
  reply.headers(rateLimitHeaders(limiter.admit(route, `${actor.tenantId} ${actor.userId}`)));
};

/** 504 `request_timeout` when the answer has not begun in time; null = no limit. Returns what stops it. */
const limitTime = (request: FastifyRequest, reply: FastifyReply, timeoutMs: number | null): (() => void) => {
  if (timeoutMs === null) return () => {};
  const timer = setTimeout(() => {
    sendProblem(
      request,
      reply,
      new AppError("request_timeout", { detail: "The answer took too long and was given up." }),
    );
  }, timeoutMs);
  const stop = (): void => clearTimeout(timer);
  reply.raw.once("close", stop);
  return stop;
};
