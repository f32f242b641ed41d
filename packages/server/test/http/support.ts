import { type Actor, asTenantId, asUserId } from "../../src/auth/actor.ts";
import { serverSection } from "../../src/config/server.ts";
import { AppError } from "../../src/errors.ts";
import { type ApiServer, createHttpServer, type HttpServerOptions } from "../../src/http/server.ts";
import { type Logger, noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";

export const actor: Actor = {
  tenantId: asTenantId("00000000-0000-4000-8000-000000000001"),
  userId: asUserId("00000000-0000-4000-8000-000000000002"),
  subjectType: "user",
  scopes: ["*"],
};

export const bearer = { authorization: "Bearer good" };

// Tests send faster than users.
const unlimited = { rps: 1_000_000, burst: 1_000_000, in_flight: 1_000_000, per_user_rps: 0 };

/** A server whose only valid token is `good`, with the given routes and settings. */
export const testServer = (
  register: (api: ApiServer) => void,
  settings: { server?: object; url_prefix?: string } = {},
  overrides: Partial<HttpServerOptions> = {},
) =>
  createHttpServer({
    config: {
      url_prefix: settings.url_prefix ?? "",
      server: serverSection.parse({ bind_address: "127.0.0.1:0", rate_limit: unlimited, ...settings.server }),
    },
    authenticator: {
      authenticate: async (header) => {
        if (header === "Bearer good") return actor;
        throw new AppError("unauthorized", { detail: "The token is not valid." });
      },
    },
    licenseGate: { isLicensed: async () => true },
    logger: noLogger,
    metrics: noMetrics,
    isDraining: () => false,
    register,
    ...overrides,
  });

/** A log that keeps its lines. */
export const recordingLogger = () => {
  const lines: Record<string, unknown>[] = [];
  const make = (base: object): Logger => {
    const at = (level: string) => (fields: object, msg: string) => {
      lines.push({ level, msg, ...base, ...fields });
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      critical: at("critical"),
      child: (fields) => make({ ...base, ...fields }),
    };
  };
  return { logger: make({}), lines };
};
