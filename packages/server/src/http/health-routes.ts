import type { ApiServer } from "./base.ts";
import type { Health } from "./health.ts";

/** `""`, `/a`, `/a/b` for the prefix `/a/b`: where the unauthenticated routes are served (api.md §9). */
export const prefixesOf = (urlPrefix: string): readonly string[] => {
  const segments = urlPrefix.split("/").filter((segment) => segment !== "");
  return ["", ...segments.map((_, at) => `/${segments.slice(0, at + 1).join("/")}`)];
};

/** The health routes below one path; `reasons` are for the ops listener only (ops.md §4). */
export const registerHealthRoutes = (
  app: ApiServer,
  health: Health,
  { prefix, withReasons }: { prefix: string; withReasons: boolean },
): void => {
  app.get(`${prefix}/healthz`, async (_request, reply) => reply.type("text/plain").send("ok"));
  app.get(`${prefix}/health`, async (_request, reply) => {
    const { status, timestamp, reasons } = await health.health();
    const report = { status, timestamp, ...(withReasons && reasons.length > 0 ? { reasons } : {}) };
    return reply.type("application/json").send(JSON.stringify(report));
  });
  app.get(`${prefix}/readyz`, async (_request, reply) => {
    const report = await health.readiness();
    return reply
      .code(report.ready ? 200 : 503)
      .type("application/json")
      .send(JSON.stringify(report));
  });
};

/** Health on the public listener: without `reasons`, at the root and below every part of the prefix. */
export const registerPublicHealth = (app: ApiServer, health: Health, urlPrefix: string): void => {
  for (const prefix of prefixesOf(urlPrefix)) {
    registerHealthRoutes(app, health, { prefix, withReasons: false });
  }
};
