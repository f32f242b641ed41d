import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { createSerializerCompiler } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Actor } from "../auth/actor.ts";
import { AppError } from "../errors.ts";
import { invariant } from "../lib/assert.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { parseJsonBody, readBody, requireJsonMediaType } from "./body.ts";
import { exchangeOf } from "./exchange.ts";
import { closesUnread, lingering } from "./linger.ts";
import { pathOf, renderProblem, toAppError } from "./problem.ts";
import { type ParsedQuery, parseQuery, pickQuery } from "./query.ts";
import { type RequestLog, requestLog } from "./request-log.ts";
import { createRouteTable } from "./routes-table.ts";
import { answerUnparsed, refuseSocket } from "./unparsed.ts";
import { validatorCompiler } from "./validate.ts";

/** The server as route modules see it: schemas are zod, handlers throw `AppError`. */
export type ApiServer = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  RequestLog,
  ZodTypeProvider
>;

declare module "fastify" {
  interface FastifyRequest {
    /** The authenticated caller. */
    readonly actor: Actor;
    /** 32 hex digits. */
    readonly traceId: string;
    /** The W3C header for calls this request causes. */
    readonly traceparent: string;
    /** `performance.now()` when the request was seen. */
    readonly receivedAt: number;
  }
  interface FastifyContextConfig {
    /** Answers with a stream: no time limit for it, and it is in flight until its headers are sent. */
    readonly stream?: boolean;
    /**
     * The handler reads the body itself; no JSON, no time limit (uploads). Its media type is in
     * `raw.headersDistinct` only.
     */
    readonly rawBody?: boolean;
    /** The fields of the form such a handler reads, for the document. */
    readonly form?: z.ZodType;
    /** New sends, retries, edits and uploads: refused while draining (ops.md §9). */
    readonly refuseWhileDraining?: boolean;
  }
}

export interface BaseOptions {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly bodyLimitBytes: number;
  /** Turns a foreign error (of the database, say) into a refusal; undefined = opaque 500. */
  readonly translateError?: ((error: unknown) => AppError | undefined) | undefined;
  /** Headers of the answer to a request that no route takes, by its path. */
  readonly headersWithoutRoute?: (path: string) => Readonly<Record<string, string>>;
}

/**
 * A server with what every listener shares: ids and trace of the exchange, problems for everything
 * that fails (router, parser and framework included), one log line and metrics per request.
 */
export function createBaseServer(options: BaseOptions): ApiServer {
  const app: ApiServer = Fastify({
    loggerInstance: requestLog(options.logger),
    logController: new LogController({
      // One line per request is written by `watchExchange`, whatever way the response ends.
      disableRequestLogging: true,
      requestIdLogLabel: "http_request_id",
    }),
    requestIdHeader: false,
    genReqId: (raw) => exchangeOf(raw as RawRequestDefaultExpression).requestId,
    childLoggerFactory: (logger, bindings, _options, raw) => {
      const { traceId, spanId } = exchangeOf(raw as RawRequestDefaultExpression);
      return logger.child({ ...bindings, trace_id: traceId, span_id: spanId });
    },
    bodyLimit: options.bodyLimitBytes,
    return503OnClosing: false,
    // `closeGently` closes what is idle, and leaves what is still being sent.
    forceCloseConnections: false,
    exposeHeadRoutes: false,
    routerOptions: {
      // Longer than any header Node accepts: a long id is malformed, not an unknown route.
      maxParamLength: 65_536,
      querystringParser: (query) => ({ query: parseQuery(query) }),
    },
    // The colon of `messages:stream` may arrive escaped (api.md §1.1).
    rewriteUrl: (raw) => (raw.url ?? "/").replace(/^[^?]*/, (path) => path.replaceAll(/%3A/gi, ":")),
    frameworkErrors: (error, request, reply) => {
      stampExchange(request, reply);
      stampWithoutRoute(request, reply, options);
      watchExchange(request, reply, options);
      sendError(request, reply, error, options);
    },
    clientErrorHandler: refuseSocket,
    // Node would answer 400 without a body; `refuseWithoutHost` answers as every other refusal.
    // A `$filter` of 8 KiB is three times that in the request line, percent-encoded (api.md §4).
    http: { requireHostHeader: false, maxHeaderSize: 65_536 },
  }).withTypeProvider<ZodTypeProvider>();
  answerUnparsed(app.server);
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(createSerializerCompiler({ replacer: bigintAsInteger }));
  decorateRequests(app);
  app.addHook("onRequest", async (request, reply) => {
    stampExchange(request, reply);
    if (request.is404 || request.method === "OPTIONS") stampWithoutRoute(request, reply, options);
    watchExchange(request, reply, options);
    refuseWithoutHost(request);
  });
  app.setErrorHandler((error, request, reply) => sendError(request, reply, error, options));
  readJsonBodies(app, options.bodyLimitBytes);
  answerUnknownRoutes(app);
  return app;
}

const bigintAsInteger = (_key: string, value: unknown): unknown =>
  typeof value === "bigint" ? JSON.rawJSON(value.toString()) : value;

const decorateRequests = (app: ApiServer): void => {
  app.decorateRequest("actor", {
    getter() {
      const { actor } = exchangeOf(this.raw);
      invariant(actor !== undefined, "the actor is known only after authentication");
      return actor;
    },
  });
  app.decorateRequest("traceId", {
    getter() {
      return exchangeOf(this.raw).traceId;
    },
  });
  app.decorateRequest("traceparent", {
    getter() {
      return exchangeOf(this.raw).traceparent;
    },
  });
  app.decorateRequest("receivedAt", {
    getter() {
      return exchangeOf(this.raw).startedAt;
    },
  });
};

const stampExchange = (request: FastifyRequest, reply: FastifyReply): void => {
  const exchange = exchangeOf(request.raw);
  reply.header("x-request-id", exchange.requestId);
  reply.header("traceparent", exchange.traceparent);
  reply.header("cache-control", "no-store");
};

const stampWithoutRoute = (request: FastifyRequest, reply: FastifyReply, options: BaseOptions): void => {
  if (options.headersWithoutRoute !== undefined) {
    reply.headers(options.headersWithoutRoute(pathOf(request.url)));
  }
};

const refuseWithoutHost = ({ raw }: FastifyRequest): void => {
  if (raw.headers.host !== undefined || raw.httpVersion === "1.0") return;
  throw new AppError("invalid_request", { detail: "The header Host is missing." });
};

/** The template of the matched route, `none` for an unknown one; never the path with its ids. */
const routeOf = (request: FastifyRequest): string => request.routeOptions.url ?? "none";

/** Writes the one log line and the metrics of a request when its response is over, however it ends. */
const watchExchange = (request: FastifyRequest, reply: FastifyReply, options: BaseOptions): void => {
  const { metrics } = options;
  const { startedAt } = exchangeOf(request.raw);
  const route = routeOf(request);
  const { method } = request;
  metrics.add("http_server_active_requests", { method, route }, 1);
  let open = true;
  const end = (): void => {
    if (!open) return;
    open = false;
    exchangeOf(request.raw).release?.();
    // 499: the client left before there was an answer.
    const status = reply.raw.headersSent ? reply.raw.statusCode : 499;
    const durationMs = Math.round((performance.now() - startedAt) * 1000) / 1000;
    metrics.add("http_server_active_requests", { method, route }, -1);
    metrics.observe("http_server_request_duration_ms", { method, route, status: String(status) }, durationMs);
    request.log.info({ method, route, http_status: status, duration_ms: durationMs }, "request");
  };
  reply.raw.once("close", end);
  reply.raw.once("finish", end);
};

/** What the framework's own errors mean to a client. */
const translateFrameworkError = (error: unknown): AppError | undefined => {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "FST_ERR_BAD_URL":
    case "FST_ERR_MAX_PARAM_LENGTH":
      return new AppError("invalid_request", { detail: "The request path is malformed." });
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
      return new AppError("invalid_request", { status: 415, title: "Unsupported Media Type" });
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new AppError("body_too_large");
    case "FST_ERR_CTP_INVALID_CONTENT_LENGTH":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return new AppError("invalid_request", { detail: "The body is not what its headers say." });
    default:
      return undefined;
  }
};

const sendError = (
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
  options: BaseOptions,
): void => {
  const known = error instanceof AppError ? error : translateFrameworkError(error);
  const refusal = known ?? options.translateError?.(error) ?? toAppError(error);
  // 502 and 503 have a cause outside this process; only a 500 is our own fault.
  if (refusal.status === 500) {
    request.log.error({ err: refusal.options.cause ?? refusal, error_code: refusal.code }, "request failed");
  } else if (refusal.status > 500) {
    request.log.warn({ err: refusal.options.cause ?? refusal, error_code: refusal.code }, "request refused");
  }
  sendProblem(request, reply, refusal);
};

/** Answers with a problem, unless an answer is already on its way. */
export const sendProblem = (request: FastifyRequest, reply: FastifyReply, refusal: AppError): void => {
  if (reply.sent || reply.raw.headersSent) return;
  const { traceId } = exchangeOf(request.raw);
  const { status, headers, problem } = renderProblem(refusal, { url: request.originalUrl, traceId });
  // Bytes, not text: the framework would add a charset, which this media type does not have.
  const body = Buffer.from(JSON.stringify(problem));
  reply.code(status).headers(headers);
  if (closesUnread(reply)) {
    exchangeOf(request.raw).release?.();
    reply.header("content-length", body.length).send(lingering(body, request.raw));
  } else reply.send(body);
};

/** JSON where the operation has a body schema; any other body is ignored (api.md §1.4). */
const readJsonBodies = (app: ApiServer, limit: number): void => {
  app.addHook("preParsing", async ({ headers, routeOptions: { schema } }) => {
    if (schema?.body !== undefined) requireJsonMediaType(headers["content-type"]);
    // The framework refuses a malformed type even of a body that is ignored, or read by the handler.
    else Reflect.deleteProperty(headers, "content-type");
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", async (request: FastifyRequest) => {
    const { schema, config } = request.routeOptions;
    if (config.rawBody) return undefined;
    if (schema?.body !== undefined) return parseJsonBody(await readBody(request.raw, limit));
    request.raw.resume();
    return undefined;
  });
};

const answerUnknownRoutes = (app: ApiServer): void => {
  const table = createRouteTable();
  app.addHook("onRoute", ({ method, url }) => {
    if (url.includes("*")) return;
    for (const name of Array.isArray(method) ? method : [method]) table.add(name, url);
  });
  const refuse = (request: FastifyRequest): never => {
    const methods = table.methodsFor(pathOf(request.url));
    if (methods.length === 0) {
      throw new AppError("route_not_found", { detail: "There is nothing at this path." });
    }
    throw new AppError("method_not_allowed", {
      detail: "This path has no such method.",
      headers: { allow: methods.join(", ") },
    });
  };
  // The CORS plugin takes OPTIONS of every path; only a preflight of an existing operation is its own.
  app.addHook("onRequest", async (request) => {
    if (request.method !== "OPTIONS") return;
    const asked = request.headers["access-control-request-method"];
    const isPreflight = request.headers.origin !== undefined && asked !== undefined;
    if (!isPreflight || !table.methodsFor(pathOf(request.url)).includes(asked)) refuse(request);
  });
  // Before the body: the framework fails for bodies of methods that no route has.
  app.addHook("preParsing", async (request) => {
    if (request.is404) refuse(request);
  });
  app.setNotFoundHandler(refuse);
};

const noKeys: readonly string[] = [];

/** What of the query the schema of the route offers, decoded; set it as `request.query` before validation. */
export const queryOf = (request: FastifyRequest): Record<string, string> => {
  const schema = request.routeOptions.schema?.querystring;
  const keys = schema instanceof z.ZodObject ? Object.keys(schema.shape) : noKeys;
  if (keys.length === 0) return {};
  const { query } = request.query as { query: ParsedQuery };
  return pickQuery(query, keys);
};
