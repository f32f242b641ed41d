import { randomUUID } from "node:crypto";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import type { Overrides } from "../../src/app/given.ts";
import { type App, startApp } from "../../src/app.ts";
import { type Config, parseConfig } from "../../src/config/schema.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { type Caller, callers, testConfigTree } from "./config.ts";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { type OpenedStream, openStream, type WireEvent } from "./stream.ts";

export interface TestAppOptions {
  /** Laid over the test configuration. */
  readonly config?: Tree;
  readonly overrides?: Overrides;
  /** Shared with other processes of the test; default: one of its own. */
  readonly database?: TestDatabase;
  readonly simulator?: Simulator;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: the tests say what they expect in it
  readonly body: any;
}

export interface TestApp {
  readonly app: App;
  readonly config: Config;
  readonly db: Db;
  readonly database: TestDatabase;
  readonly simulator: Simulator;
  /** `http://127.0.0.1:PORT/v1`. */
  readonly base: string;
  readonly opsBase: string;
  /** Log lines so far, parsed. */
  readonly logs: Record<string, unknown>[];
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** A new chat of the caller; its id. */
  createChat(caller?: Caller, body?: object): Promise<string>;
  /** Sends a message and resolves when the answer's headers are in. */
  send(chatId: string, body: object, caller?: Caller): Promise<OpenedStream>;
  /** Sends a message and reads the stream to its end. */
  ask(chatId: string, content: string, caller?: Caller): Promise<{ requestId: string; events: WireEvent[] }>;
  /** Stops the process; then drops what was not shared. */
  close(): Promise<void>;
}

export interface CallOptions {
  readonly caller?: Caller | null;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** The real application on a database of its own, against a simulator of its own. */
export const startTestApp = async (options: TestAppOptions = {}): Promise<TestApp> => {
  const database = options.database ?? (await createTestDatabase());
  const simulator = options.simulator ?? (await startSimulator());
  const base = testConfigTree({ databaseUrl: database.url, simulatorPort: simulator.port });
  const config = parseConfig(overlay(base, options.config ?? {}) as object);
  const logs: Record<string, unknown>[] = [];
  const app = await startApp({
    config,
    logger: createLogger(
      config.log,
      { version: "test", instance_id: "test", role: config.role },
      { write: (line) => void logs.push(JSON.parse(line) as Record<string, unknown>) },
    ),
    given: {
      secrets: () => null,
      ...(options.overrides === undefined ? {} : { overrides: options.overrides }),
    },
  });
  const url = `http://127.0.0.1:${app.api?.port}${config.url_prefix}/v1`;
  const send: TestApp["send"] = (chatId, body, caller = callers.ann) =>
    openStream(`${url}/chats/${chatId}/messages:stream`, {
      headers: { authorization: `Bearer ${caller.token}` },
      body,
    });
  const call: TestApp["call"] = (method, path, more) => callApi(`${url}${path}`, method, more);
  return {
    app,
    config,
    db: app.db,
    database,
    simulator,
    base: url,
    opsBase: `http://127.0.0.1:${app.ops?.port}`,
    logs,
    call,
    send,
    createChat: async (caller = callers.ann, body = {}) => {
      const { status, body: chat } = await call("POST", "/chats", { caller, body });
      if (status !== 201) throw new Error(`chat not created: ${JSON.stringify(chat)}`);
      return chat.id;
    },
    ask: async (chatId, content, caller = callers.ann) => {
      const requestId = randomUUID();
      const stream = await send(chatId, { content, request_id: requestId }, caller);
      if (stream.status !== 200) throw new Error(`refused: ${JSON.stringify(await stream.problem())}`);
      return { requestId, events: await stream.rest() };
    },
    close: async () => {
      await app.stop();
      if (options.simulator === undefined) await simulator.close();
      if (options.database === undefined) await database.drop();
    },
  };
};

/** One request; JSON bodies are parsed, others are text. */
export const callApi = async (url: string, method: string, options: CallOptions = {}): Promise<Answer> => {
  const { caller = callers.ann, body, headers } = options;
  const response = await fetch(url, {
    method,
    headers: {
      ...(caller === null ? {} : { authorization: `Bearer ${caller.token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("content-type") ?? "") && text !== "";
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
};

/** Polls until the condition holds; the time limit of the test bounds it. */
export const eventually = async (condition: () => Promise<boolean> | boolean): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
};
