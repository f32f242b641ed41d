import { createHash } from "node:crypto";
import type { FastifySchema, RouteOptions } from "fastify";
import { z } from "zod";
import type { Config } from "../config/schema.ts";
import type { ErrorCode } from "../errors.ts";
import type { ApiServer } from "./base.ts";
import { docsPage } from "./docs-page.ts";
import { prefixesOf } from "./health-routes.ts";
import { type Components, toJsonSchema } from "./json-schema.ts";
import { codesByStatus, codesKey, problemResponse } from "./openapi.ts";
import { problemMediaType } from "./problem.ts";

export interface OpenApi {
  /** The OpenAPI 3.1 document; all routes must be registered. */
  render(): object;
}

/**
 * Collects the operations below `{prefix}/v1` as they are registered and serves the document made of
 * their very schemas, with a viewer (api.md §9), unless `server.docs_enabled` is off.
 */
export const documentApi = (app: ApiServer, config: Pick<Config, "server" | "url_prefix">): OpenApi => {
  const root = `${config.url_prefix}/v1`;
  const routes: RouteOptions[] = [];
  app.addHook("onRoute", (route) => {
    if (route.url.startsWith(`${root}/`)) routes.push(route);
  });
  let document: object | undefined;
  const render = (): object => {
    document ??= describe(root, routes);
    return document;
  };
  if (config.server.docs_enabled) serveDocument(app, config.url_prefix, render);
  return { render };
};

const serveDocument = (app: ApiServer, urlPrefix: string, render: () => object): void => {
  let served: { readonly body: string; readonly etag: string } | undefined;
  const current = (): { readonly body: string; readonly etag: string } => {
    if (served === undefined) {
      const body = JSON.stringify(render());
      served = { body, etag: `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"` };
    }
    return served;
  };
  for (const prefix of prefixesOf(urlPrefix)) {
    app.get(`${prefix}/openapi.json`, async (request, reply) => {
      const { body, etag } = current();
      reply.headers({ etag, "cache-control": "no-cache" });
      if (request.headers["if-none-match"] === etag) return reply.code(304).send();
      return reply.type("application/json").send(body);
    });
    app.get(`${prefix}/docs`, async (_request, reply) =>
      reply
        .headers({ "content-security-policy": docsPage.policy, "x-content-type-options": "nosniff" })
        .type("text/html; charset=utf-8")
        .send(docsPage.html),
    );
  }
};

type Paths = Record<string, Record<string, object>>;

const describe = (root: string, routes: readonly RouteOptions[]): object => {
  const components: Components = new Map();
  const paths: Paths = {};
  for (const route of routes) {
    const path = documentPath(route.url.slice(root.length));
    const item = paths[path] ?? {};
    paths[path] = item;
    for (const method of [route.method].flat()) {
      item[method.toLowerCase()] = operation(method, path, route, components);
    }
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "mini-chat",
      version: "1",
      description:
        "Chats with streamed answers. Every status of 400 or more carries a Problem; branch on its code.",
    },
    servers: [{ url: root }],
    security: [{ bearer: [] }],
    paths: sorted(paths),
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: sorted(Object.fromEntries(components)),
    },
  };
};

const sorted = <Value>(record: Record<string, Value>): Record<string, Value> =>
  Object.fromEntries(Object.entries(record).toSorted(([one], [other]) => (one < other ? -1 : 1)));

/** `/chats/:id/messages::stream` as `/chats/{id}/messages:stream`. */
const documentPath = (url: string): string =>
  url.replace(/::|:(\w+)/g, (_, name?: string) => (name === undefined ? ":" : `{${name}}`));

const operation = (method: string, path: string, route: RouteOptions, components: Components): object => {
  const schema = route.schema ?? {};
  const parameters = [
    ...parametersOf("path", schema.params, components),
    ...parametersOf("query", schema.querystring, components),
  ];
  return {
    operationId: schema.operationId ?? operationId(method, path),
    ...(schema.summary === undefined ? {} : { summary: schema.summary }),
    ...(schema.description === undefined ? {} : { description: schema.description }),
    ...(schema.tags === undefined ? {} : { tags: schema.tags }),
    ...(schema.deprecated === true ? { deprecated: true } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...requestBody("application/json", schema.body, components),
    ...requestBody("multipart/form-data", route.config?.form, components),
    responses: responsesOf(route, schema, components),
  };
};

const operationId = (method: string, path: string): string =>
  [method.toLowerCase(), ...path.split(/[^A-Za-z0-9]+/).filter((part) => part !== "")].join("_");

const parametersOf = (place: "path" | "query", schema: unknown, components: Components): object[] => {
  if (!(schema instanceof z.ZodObject)) return [];
  return Object.entries(schema.shape).map(([name, field]) => {
    const json = field instanceof z.ZodType ? toJsonSchema(field, "input", components) : {};
    const { description, ...rest } = json;
    return {
      name,
      in: place,
      required: place === "path" || (field instanceof z.ZodType && !field.safeParse(undefined).success),
      ...(description === undefined ? {} : { description }),
      schema: rest,
    };
  });
};

const requestBody = (mediaType: string, schema: unknown, components: Components): object => {
  if (!(schema instanceof z.ZodType)) return {};
  const content = { [mediaType]: { schema: toJsonSchema(schema, "input", components) } };
  return { requestBody: { required: true, content } };
};

/** The refusals an operation has for what it is, besides those it names itself. */
const sharedCodes = (route: RouteOptions, schema: FastifySchema): readonly ErrorCode[] => [
  "unauthorized",
  "feature_not_licensed",
  "too_many_requests",
  "internal_error",
  "service_unavailable",
  ...(route.config?.stream || route.config?.rawBody ? [] : (["request_timeout"] as const)),
  ...(route.config?.refuseWhileDraining ? (["shutting_down"] as const) : []),
  ...(schema.params || schema.querystring || schema.body ? (["invalid_request"] as const) : []),
  ...(schema.body ? (["body_too_large"] as const) : []),
];

const responsesOf = (route: RouteOptions, schema: FastifySchema, components: Components): object => {
  const refusals = codesByStatus(sharedCodes(route, schema));
  const add = (status: number, codes: readonly ErrorCode[]): void => {
    refusals.set(status, [...new Set([...(refusals.get(status) ?? []), ...codes])]);
  };
  if (schema.body) for (const status of [415, 422]) add(status, ["invalid_request"]);
  const responses: Record<string, object> = {};
  for (const [status, response] of Object.entries(schema.response ?? {})) {
    const codes = codesOf(response);
    if (codes !== null) add(Number(status), codes);
    else responses[status] = success(response, components);
  }
  for (const [status, codes] of refusals) {
    const problem = toJsonSchema(problemSchemaOf(codes), "output", components);
    const narrowed = { allOf: [problem, { properties: { code: { enum: codes.toSorted() } } }] };
    responses[status] = {
      description: codes.join(", "),
      content: { [problemMediaType]: { schema: narrowed } },
    };
  }
  return responses;
};

const problemSchemaOf = (codes: readonly ErrorCode[]): z.ZodType => {
  const { content } = problemResponse(codes);
  return content[problemMediaType]?.schema ?? z.unknown();
};

const codesOf = (response: unknown): readonly ErrorCode[] | null =>
  typeof response === "object" && response !== null && codesKey in response
    ? (response[codesKey] as readonly ErrorCode[])
    : null;

const success = (response: unknown, components: Components): object => {
  if (response instanceof z.ZodUndefined || response instanceof z.ZodVoid || response instanceof z.ZodNull) {
    return { description: response.description ?? "Done." };
  }
  if (response instanceof z.ZodType) {
    const schema = toJsonSchema(response, "output", components);
    return { description: response.description ?? "Success.", content: { "application/json": { schema } } };
  }
  const { description, content } = response as {
    description?: string;
    content?: Record<string, { schema: unknown }>;
  };
  const described = Object.entries(content ?? {}).map(([mediaType, { schema }]) => [
    mediaType,
    { schema: schema instanceof z.ZodType ? toJsonSchema(schema, "output", components) : {} },
  ]);
  return { description: description ?? "Success.", content: Object.fromEntries(described) };
};
