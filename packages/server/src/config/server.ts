import { z } from "zod";
import { bearerSecret, databaseUrl, flag, hostPort, httpUrl, int, millis, nonBlank, secs } from "./fields.ts";

/** Public and ops listeners (ops.md §2.2). */
export const serverSection = z
  .strictObject({
    bind_address: hostPort().default("127.0.0.1:8087"),
    /** null: health on the public listener only, the other ops routes off. */
    ops_bind_address: hostPort().nullable().default("127.0.0.1:9090"),
    admin_token: bearerSecret(16).optional(),
    body_limit_bytes: int(16_777_216, 65_536),
    request_timeout_secs: secs(30, 1, 600),
    rate_limit: z
      .strictObject({
        rps: int(50, 1),
        burst: int(100, 1),
        in_flight: int(64, 1),
        per_user_rps: int(10, 0),
        per_user_burst: int(30, 0),
      })
      .prefault({}),
    cors: z
      .strictObject({
        enabled: flag(false),
        allowed_origins: z.array(nonBlank()).default([]),
        allow_credentials: flag(false),
        max_age_secs: int(600, 0),
      })
      .prefault({}),
    docs_enabled: flag(true),
    web_enabled: flag(true),
  })
  .prefault({});

/** Token of `POST /internal/policy:notify`; unset: the route answers 404. */
export const internalSection = z.strictObject({ api_token: bearerSecret(16).optional() }).prefault({});

/** PostgreSQL, embedded or external (ops.md §2.2). */
export const databaseSection = z
  .strictObject({
    mode: z.enum(["embedded", "external"]).default("embedded"),
    data_dir: nonBlank().default("./data"),
    url: databaseUrl().optional(),
    direct_url: databaseUrl().optional(),
    max_connections: int(10, 1, 500),
    acquire_timeout_secs: secs(30, 1, 60),
    statement_timeout_ms: millis(15_000, 100),
    lock_timeout_ms: millis(5_000, 100),
    idle_in_transaction_timeout_ms: millis(30_000, 100),
    migrations: z.enum(["auto", "check", "off"]).optional(),
    row_level_security: flag(true),
  })
  .transform((database) => ({
    ...database,
    migrations: database.migrations ?? (database.mode === "embedded" ? "auto" : "check"),
  }))
  .prefault({});

/** Level and form of the log on stdout (ops.md §6). */
export const logSection = z
  .strictObject({
    level: z.enum(["debug", "info", "warn", "error", "critical"]).default("info"),
    format: z.enum(["json", "pretty"]).default("json"),
  })
  .prefault({});

/** Metric names and exposition (ops.md §5). */
export const metricsSection = z
  .strictObject({
    enabled: flag(true),
    prefix: z
      .string()
      .trim()
      .regex(/^([a-z_][a-z0-9_]*)?$/, "must match [a-z_][a-z0-9_]*")
      .transform((text) => text || "mini_chat")
      .prefault(""),
  })
  .prefault({});

/** Span export (ops.md §7). */
export const tracingSection = z
  .strictObject({
    otlp_endpoint: httpUrl().nullable().default(null),
    sample_ratio: z.number().min(0).max(1).default(0.1),
  })
  .prefault({});
