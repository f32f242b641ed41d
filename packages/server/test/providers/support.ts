import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { asTenantId, asUserId } from "../../src/auth/actor.ts";
import { egressSection, providersSection } from "../../src/config/providers.ts";
import { Secret } from "../../src/config/secret.ts";
import type {
  ProviderEvent,
  ProviderOutcome,
  ProviderRegistry,
  ProviderRequest,
  ProviderStream,
} from "../../src/providers/contract.ts";
import { createProviderRegistry, type Providers } from "../../src/providers/registry.ts";
import type { Logger } from "../../src/telemetry/log.ts";
import { type Metrics, noMetrics } from "../../src/telemetry/metrics.ts";

export const tenant = asTenantId("11111111-1111-4111-8111-111111111111");
export const otherTenant = asTenantId("22222222-2222-4222-8222-222222222222");
const user = asUserId("33333333-3333-4333-8333-333333333333");

/** One request a scripted provider received, with the raw socket to answer on. */
export interface Received {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Record<string, unknown>;
  readonly socket: Socket;
  /** Resolves when this socket is closed from either side. */
  readonly closed: Promise<void>;
}

export interface ScriptedProvider {
  readonly port: number;
  readonly requests: readonly Received[];
  /** Sockets accepted so far, requests or not. */
  readonly sockets: readonly Socket[];
  /** The next connection. */
  connection(): Promise<Socket>;
  close(): Promise<void>;
}

/** A provider that answers byte for byte what the test says: for what no well-behaved server does. */
export async function startScriptedProvider(
  answer: (received: Received, count: number) => void,
): Promise<ScriptedProvider> {
  const requests: Received[] = [];
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    socket.on("error", () => {});
    let pending = Buffer.alloc(0);
    socket.on("data", (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      const parsed = parseRequest(pending);
      if (parsed === null) return;
      pending = Buffer.alloc(0);
      const received = { ...parsed, socket, closed };
      requests.push(received);
      answer(received, requests.length);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    sockets,
    connection: () => new Promise((resolve) => server.once("connection", resolve)),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const parseRequest = (bytes: Buffer): Omit<Received, "socket" | "closed"> | null => {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1) return null;
  const [requestLine = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => [
      line.slice(0, line.indexOf(":")).toLowerCase(),
      line.slice(line.indexOf(":") + 1).trim(),
    ]),
  );
  const body = bytes.subarray(end + 4);
  if (body.length < Number(headers["content-length"] ?? 0)) return null;
  return { path: requestLine.split(" ")[1] ?? "", headers, body: JSON.parse(body.toString("utf8")) };
};

/** Response headers; without `length` the body is in HTTP chunks. */
export const head = (status: number, headers: Record<string, string> = {}, length?: number): string =>
  [
    `HTTP/1.1 ${status} X`,
    length === undefined ? "transfer-encoding: chunked" : `content-length: ${length}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "\r\n",
  ].join("\r\n");

export const streamHead = head(200, { "content-type": "text/event-stream; charset=utf-8" });

/** One HTTP chunk. */
export const chunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

/** One HTTP chunk of bytes that are no text. */
export const rawChunk = (bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);

export const lastChunk = "0\r\n\r\n";

/** A whole response with a JSON or text body. */
export const whole = (status: number, body: unknown, headers: Record<string, string> = {}): string => {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const type = typeof body === "string" ? "text/plain" : "application/json";
  return head(status, { "content-type": type, ...headers }, Buffer.byteLength(text)) + text;
};

/** A server-sent event whose data carries its own type, as OpenAI sends them. */
export const sse = (type: string, data: Record<string, unknown> = {}): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;

export const textDelta = (text: string): string =>
  sse("response.output_text.delta", { item_id: "msg_1", delta: text });

export const usage = {
  input_tokens: 50,
  output_tokens: 12,
  input_tokens_details: { cached_tokens: 8 },
  output_tokens_details: { reasoning_tokens: 3 },
};

export const normalisedUsage = {
  inputTokens: 50,
  outputTokens: 12,
  cacheReadInputTokens: 8,
  cacheWriteInputTokens: 0,
  reasoningTokens: 3,
};

export const completed = (more: Record<string, unknown> = {}): string =>
  sse("response.completed", { response: { id: "resp_1", usage, ...more } });

/** A provider entry as in the configuration file. */
export const entry = (port: number, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  kind: "openai_responses",
  host: "127.0.0.1",
  port,
  use_http: true,
  storage_kind: "memory",
  ...more,
});

export interface Telemetry {
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** `name{label values}` of every counter and histogram recorded. */
  readonly recorded: string[];
  readonly lines: string[];
}

export const recordTelemetry = (): Telemetry => {
  const recorded: string[] = [];
  const lines: string[] = [];
  const note = (name: string, labels: object = {}): void => {
    recorded.push(`${name}{${Object.values(labels).join(",")}}`);
  };
  const line = (fields: object, msg: string): void => {
    lines.push(JSON.stringify({ ...fields, msg }));
  };
  const logger: Logger = {
    debug: line,
    info: line,
    warn: line,
    error: line,
    critical: line,
    child: () => logger,
  };
  return { metrics: { ...noMetrics, count: note, observe: note }, logger, recorded, lines };
};

/** A registry of the given entries. Timers are in seconds and may be fractions here. */
export const registryOf = (
  entries: Record<string, Record<string, unknown>>,
  options: {
    egress?: Record<string, number>;
    secrets?: Record<string, string>;
    telemetry?: Telemetry;
    clock?: { now(): number };
  } = {},
): Providers =>
  createProviderRegistry({
    providers: providersSection.parse(entries),
    egress: { ...egressSection.parse({ allow_http_upstream: true }), ...options.egress },
    secret: (reference) => {
      const text = options.secrets?.[reference];
      return text === undefined ? null : new Secret(text);
    },
    ...(options.telemetry ?? {}),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });

export const request = (more: Partial<ProviderRequest> = {}): ProviderRequest => ({
  model: "gpt-deployed",
  messages: [{ role: "user", content: [{ text: "hi" }] }],
  tools: [],
  userIdentity: { tenantId: tenant, userId: user },
  metadata: { tenantId: tenant, userId: user, chatId: "chat-1", requestType: "chat", features: [] },
  params: {},
  correlationId: "turn-1",
  ...more,
});

/** Calls provider `p` for the tenant of `request()`. */
export const stream = (
  registry: ProviderRegistry,
  signal: AbortSignal = new AbortController().signal,
  more: Partial<ProviderRequest> = {},
): ProviderStream => {
  const target = registry.resolve("p", more.userIdentity?.tenantId ?? tenant);
  if (target === null) throw new Error("provider p is not configured");
  return registry.adapter(target).stream(request(more), target, signal);
};

/** Reads a stream to its end; fails when the end is not exactly one terminal event. */
export const drain = async (
  running: ProviderStream,
): Promise<{ events: ProviderEvent[]; outcome: ProviderOutcome }> => {
  const events: ProviderEvent[] = [];
  for await (const batch of running) events.push(...batch);
  const last = events.pop();
  if (last?.type !== "terminal") throw new Error("the stream ended without a terminal event");
  if (events.some((event) => event.type === "terminal")) throw new Error("two terminal events");
  return { events, outcome: last.outcome };
};

export const textOf = (events: readonly ProviderEvent[]): string =>
  events.map((event) => (event.type === "delta" && event.kind === "text" ? event.content : "")).join("");
