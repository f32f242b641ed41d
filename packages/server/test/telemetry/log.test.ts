import { expect, test } from "vitest";
import { Secret } from "../../src/config/secret.ts";
import { createLogger, type LogLevel } from "../../src/telemetry/log.ts";

const capture = (level: LogLevel = "debug", format: "json" | "pretty" = "json") => {
  const lines: string[] = [];
  const logger = createLogger(
    { level, format },
    { version: "1.2.3", instance_id: "i-1", role: "all" },
    { write: (line) => lines.push(line) },
  );
  const entries = (): Record<string, unknown>[] => lines.map((line) => JSON.parse(line));
  return { logger, lines, entries };
};

test("every line is one JSON object with time, level, message, service, version, instance and role", () => {
  const { logger, lines, entries } = capture();
  logger.info({ status: "ok" }, "turn ended");
  expect(lines[0]?.endsWith("}\n")).toBe(true);
  expect(entries()[0]).toMatchObject({
    level: "info",
    msg: "turn ended",
    service: "mini-chat",
    version: "1.2.3",
    instance_id: "i-1",
    role: "all",
    status: "ok",
  });
  expect(String(entries()[0]?.ts)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
});

test.each<[LogLevel, number]>([
  ["debug", 5],
  ["info", 4],
  ["warn", 3],
  ["error", 2],
  ["critical", 1],
])("level %s lets %i of the five levels through", (level, count) => {
  const { logger, lines } = capture(level);
  logger.debug({}, "m");
  logger.info({}, "m");
  logger.warn({}, "m");
  logger.error({}, "m");
  logger.critical({}, "m");
  expect(lines).toHaveLength(count);
});

test("a child keeps its fields on every line", () => {
  const { logger, entries } = capture();
  logger.child({ trace_id: "t" }).child({ chat_id: "c" }).warn({ turn_id: "u" }, "m");
  expect(entries()[0]).toMatchObject({ trace_id: "t", chat_id: "c", turn_id: "u" });
});

const planted = "tell nobody";

test.each([
  ["content", { content: planted }],
  ["nested prompt", { request: { prompt: planted } }],
  ["camel case", { systemPrompt: planted }],
  ["authorization header", { Authorization: `Basic ${planted}` }],
  ["request headers", { headers: { cookie: planted } }],
  ["file name in a list", { files: [{ filename: planted }] }],
  ["configured secret", { admin: new Secret(planted) }],
  ["bearer token in a text", { reason: "sent Bearer tell.nobody" }],
  ["key in an error", { err: new Error("refused sk-tellnobody1234") }],
  ["password in a database url", { reason: "postgres://user:tellnobody@host/db" }],
  ["fields of a foreign error", { err: Object.assign(new Error("x"), { detail: planted }) }],
])("never logged: %s", (_name, fields) => {
  const { logger, lines } = capture();
  logger.child(fields).error(fields, "m");
  expect(lines.join("")).not.toMatch(/tell[ .]?nobody/);
});

test("provider bodies are cut at 200 characters, other texts at 500", () => {
  const { logger, entries } = capture();
  logger.warn({ provider_body: "x".repeat(900), detail: "y".repeat(900) }, "m");
  expect(entries()[0]?.provider_body).toBe(`${"x".repeat(200)}…`);
  expect(entries()[0]?.detail).toBe(`${"y".repeat(500)}…`);
});

test("errors are logged with type, message, code, stack and cause", () => {
  const { logger, entries } = capture();
  const cause = Object.assign(new Error("socket closed"), { code: "ECONNRESET" });
  logger.error({ err: new Error("call failed", { cause }) }, "m");
  expect(entries()[0]?.err).toMatchObject({
    type: "Error",
    message: "call failed",
    stack: expect.stringContaining("call failed"),
    cause: { message: "socket closed", code: "ECONNRESET" },
  });
});

test("values JSON cannot hold do not throw", () => {
  const { logger, entries } = capture();
  const circle: Record<string, unknown> = { amount: 12n };
  circle.self = circle;
  logger.info(circle, "m");
  logger.info(
    Object.defineProperty({}, "bad", {
      enumerable: true,
      get: () => {
        throw new Error("no");
      },
    }),
    "m",
  );
  expect(entries()[0]).toMatchObject({ amount: "12" });
  expect(entries()).toHaveLength(2);
});

test("the pretty format shows time, level, message, fields and the stack", () => {
  const { logger, lines } = capture("debug", "pretty");
  logger.error({ chat_id: "c-1", err: new Error("boom") }, "turn failed");
  const escapeCode = String.fromCharCode(27);
  const text = lines.join("").replaceAll(new RegExp(`${escapeCode}\\[[0-9;]*m`, "g"), "");
  expect(text).toMatch(/^\d\d:\d\d:\d\d\.\d{3} ERROR +turn failed chat_id=c-1\n {4}Error: boom\n {8}at /);
});
