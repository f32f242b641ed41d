import { randomUUID } from "node:crypto";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import type { Overrides } from "../../src/app/given.ts";
import { type App, startApp } from "../../src/app.ts";
import { type Config, parseConfig } from "../../src/config/schema.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createTestDatabase, type TestDatabase } from "./database.ts";
import { type OpenedStream, openStream, type WireEvent } from "./stream.ts";

/** A caller the test application knows. */
export interface Caller {
  readonly token: string;
  readonly tenantId: string;
  readonly userId: string;
}

const tenantA = "aaaaaaaa-0000-4000-8000-000000000001";
const tenantB = "bbbbbbbb-0000-4000-8000-000000000002";

/** Two users of one tenant and a user of another. */
export const callers = {
  ann: { token: "token-ann", tenantId: tenantA, userId: "a0000000-0000-4000-8000-00000000000a" },
  amy: { token: "token-amy", tenantId: tenantA, userId: "a0000000-0000-4000-8000-00000000000b" },
  bob: { token: "token-bob", tenantId: tenantB, userId: "b0000000-0000-4000-8000-00000000000c" },
} as const satisfies Record<string, Caller>;

/** A catalog entry; prices of quota.md §15.5, so that its reserves can be read off. */
export const modelEntry = (id: string, more: Tree = {}): Tree => ({
  id,
  provider_model_id: `provider-${id}`,
  provider_id: "sim",
  provider_display_name: "Simulator",
  display_name: id,
  tier: "standard",
  enabled: true,
  context_window: 128_000,
  max_input_tokens: 100_000,
  max_output_tokens: 4_096,
  input_tokens_credit_multiplier_micro: 1_000_000,
  output_tokens_credit_multiplier_micro: 3_000_000,
  max_num_results: 5,
  general_config: {
    type: "",
    available_from: "",
    max_file_size_mb: 25,
    api_params: { temperature: 0.7, top_p: 1, frequency_penalty: 0, presence_penalty: 0, stop: [] },
    tool_support: {
      web_search: true,
      file_search: true,
      image_generation: false,
      code_interpreter: true,
      mcp: false,
    },
  },
  ...more,
});

export const premiumEntry = (id: string, more: Tree = {}): Tree =>
  modelEntry(id, {
    tier: "premium",
    max_output_tokens: 8_192,
    input_tokens_credit_multiplier_micro: 3_000_000,
    output_tokens_credit_multiplier_micro: 15_000_000,
    ...more,
  });

/** The configuration tree of a test process: loopback, free ports, no limits a test would run into. */
export const testConfigTree = (options: {
  readonly databaseUrl: string;
  readonly simulatorPort: number;
}): Tree => ({
  server: {
    bind_address: "127.0.0.1:0",
    ops_bind_address: "127.0.0.1:0",
    admin_token: "admin-token-of-tests",
    rate_limit: { rps: 100_000, burst: 100_000, in_flight: 10_000, per_user_rps: 0 },
  },
  internal: { api_token: "internal-token-of-tests" },
  database: {
    mode: "external",
    url: options.databaseUrl,
    migrations: "off",
    max_connections: 10,
  },
  auth: {
    tokens: Object.values(callers).map(({ token, tenantId, userId }) => ({
      token,
      tenant_id: tenantId,
      user_id: userId,
    })),
  },
  client_credentials: { client_id: "mini-chat", client_secret: "not-used" },
  egress: { allow_http_upstream: true },
  providers: {
    sim: {
      kind: "openai_responses",
      host: "127.0.0.1",
      port: options.simulatorPort,
      use_http: true,
      storage_kind: "memory",
    },
  },
  plugins: {
    model_policy: {
      static: {
        model_catalog: [
          modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
          premiumEntry("premium"),
        ],
      },
    },
    audit: { type: "none" },
  },
  outbox: { num_partitions: 4, poll_interval_ms: 50 },
  shutdown_ready_delay_secs: 0,
  shutdown_grace_secs: 5,
  log: { level: "debug" },
});

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
