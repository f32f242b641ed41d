import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, eventually } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import { openStream, textOf } from "../support/stream.ts";
import { addDocument } from "./operations.ts";
import { moreCallers, startApiApp } from "./support.ts";

// Each is planted in one place and may appear on no line.
const planted = {
  question: "PLANTED-QUESTION sk-abcdefghijklmnop1234",
  answer: "PLANTED-ANSWER",
  reasoning: "PLANTED-REASONING",
  prompt: "PLANTED-PROMPT",
  title: "PLANTED-TITLE",
  renamed: "PLANTED-RENAMED",
  unstorable: "PLANTED-UNSTORABLE",
  filename: "PLANTED-FILENAME.txt",
  filter: "PLANTED-FILTER",
  path: "PLANTED-PATH",
  badJson: "PLANTED-BAD-JSON",
  badField: "PLANTED-BAD-FIELD",
  header: "PLANTED-HEADER",
  wrongToken: "PLANTED-WRONG-TOKEN",
  providerBody: "PLANTED-PROVIDER-BODY",
  providerFailure: "PLANTED-PROVIDER-FAILURE",
  citation: "PLANTED-CITATION",
} as const;

const secrets = [
  ...Object.values(planted),
  ...Object.values(planted).map((text) => text.split(/[ .]/)[0] ?? text),
  ...[...Object.values(callers), ...Object.values(moreCallers)].map(({ token }) => token),
  "admin-token-of-tests",
  "internal-token-of-tests",
  "not-used",
];

const app = await startApiApp({
  config: {
    plugins: {
      model_policy: {
        static: { model_catalog: [modelEntry("standard", { system_prompt: planted.prompt })] },
      },
    },
    audit: { include_content: true },
  },
});
afterAll(() => app.close());

interface Turn {
  readonly chatId: string;
  readonly requestId: string;
  readonly traceId: string;
  readonly state: string;
}

const turns: Turn[] = [];
const answers: Answer[] = [];

const parentOf = (traceId: string): string => `00-${traceId}-b7ad6b7169203331-01`;
const newTraceId = (): string => randomUUID().replaceAll("-", "");

/** Sends in a trace of its own and lets `during` happen once the first text is there. */
const turn = async (
  chatId: string,
  content: string,
  state: string,
  during?: (requestId: string) => Promise<void>,
) => {
  const [requestId, traceId] = [randomUUID(), newTraceId()];
  const stream = await openStream(`${app.base}/chats/${chatId}/messages:stream`, {
    headers: { authorization: `Bearer ${callers.ann.token}`, traceparent: parentOf(traceId) },
    body: { content, request_id: requestId, attachment_ids: [] },
  });
  if (during !== undefined) {
    await stream.until("delta");
    await during(requestId);
    stream.disconnect();
  }
  const events = await stream.rest();
  turns.push({ chatId, requestId, traceId, state });
  return events;
};

const call = async (...args: Parameters<typeof app.call>): Promise<Answer> => {
  const answer = await app.call(...args);
  answers.push(answer);
  return answer;
};

const converse = async (): Promise<void> => {
  const { body: chat } = await call("POST", "/chats", { body: { title: planted.title } });
  await call("PATCH", `/chats/${chat.id}`, { body: { title: planted.renamed } });
  const document = await addDocument(app, callers.ann, chat.id);
  await app.db.query("update attachments set filename = $1 where id = $2", [planted.filename, document]);
  const usage = { input_tokens: 900, output_tokens: 300 };
  app.simulator.enqueue({
    events: [{ reasoning: planted.reasoning }, { text: planted.answer }],
    citations: [
      {
        type: "url_citation",
        url: `https://example.com/${planted.citation}`,
        title: planted.citation,
        start_index: 0,
        end_index: 3,
      },
    ],
    usage,
  });
  expect(textOf(await turn(chat.id, planted.question, "completed"))).toBe(planted.answer);
  app.simulator.enqueue({
    http_status: 400,
    http_body: { error: { message: `${planted.providerBody} ${planted.question}` } },
  });
  await turn(chat.id, planted.question, "failed");
  app.simulator.enqueue({
    events: [{ text: planted.answer }],
    error: { code: "server_error", message: planted.providerFailure },
  });
  await turn(chat.id, planted.question, "failed");
  app.simulator.enqueue({ events: [{ text: planted.answer }], malformed: "broken_json" });
  await turn(chat.id, planted.question, "failed");
  app.simulator.enqueue({ events: [{ text: planted.answer }, { wait_for: "never" }] });
  await turn(chat.id, planted.question, "cancelled", async () => {});
  await eventually(
    async () => (await app.db.query("select from chat_turns where state = 'running'")).rowCount === 0,
  );
  app.simulator.enqueue({ events: [{ text: planted.answer }, { wait_for: "never" }] });
  await turn(chat.id, planted.question, "cancelled", async (requestId) => {
    await call("POST", `/chats/${chat.id}/turns/${requestId}/cancel`);
  });
  await call("GET", `/chats/${chat.id}/messages?$filter=role eq '${planted.filter}'`);
  await call("GET", `/chats?$filter=title eq '${planted.filter}' and`);
  await call("GET", `/${planted.path}`);
  await call("GET", `/models/${planted.path}`);
  await call("GET", `/models/%zz${planted.path}`);
  await call("PUT", "/chats", { body: { title: planted.title } });
  await call("POST", "/chats", { body: { model: planted.badField } });
  await call("POST", "/chats", { body: { title: [planted.badField] } });
  await call("POST", `/chats/${chat.id}/messages:stream`, {
    body: { content: 7, request_id: planted.badField },
  });
  await call("GET", "/chats", { caller: { ...callers.ann, token: planted.wrongToken } });
  await call("GET", "/chats", {
    headers: { "x-request-id": `${planted.header} !`, "user-agent": planted.header, cookie: planted.header },
  });
  answers.push(
    await app.raw({
      method: "POST",
      target: "/v1/chats",
      headers: { authorization: "Bearer token-ann", "content-type": "application/json" },
      body: `{"title": ${planted.badJson}`,
    }),
  );
  // The database names the failing row in its error.
  await app.db.query(`alter table chats add constraint planted check (title <> '${planted.unstorable}')`);
  const failed = await call("POST", "/chats", { body: { title: planted.unstorable } });
  expect(failed.status).toBe(500);
  await call("GET", "/quota/status");
  await call("DELETE", `/chats/${chat.id}`);
};

const lines = (): readonly Record<string, unknown>[] => app.logs;

beforeAll(async () => {
  await converse();
  const delivered = () => lines().filter(({ msg }) => msg === "outbox messages delivered");
  await eventually(
    () => delivered().flatMap((line) => line["message_ids"] as string[]).length >= 2 * turns.length,
  );
});

test("no line holds what a user or a model wrote, a name, a token or a secret", () => {
  const text = lines().map((line) => JSON.stringify(line));
  expect(text.length).toBeGreaterThan(60);
  for (const secret of secrets) {
    expect(text.filter((line) => line.includes(secret)).slice(0, 2), secret).toEqual([]);
  }
});

test("every line says when, how bad, what, and from which process", () => {
  for (const line of lines()) {
    expect(line).toMatchObject({
      ts: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      level: expect.stringMatching(/^(debug|info|warn|error|critical)$/),
      msg: expect.stringMatching(/./),
      service: "mini-chat",
      version: "test",
      instance_id: "test",
      role: "all",
    });
    expect(line["level"]).not.toBe("critical");
  }
});

describe("a request", () => {
  test("writes one line, whatever becomes of it, found by the x-request-id of its answer", () => {
    expect(answers.length).toBeGreaterThan(15);
    for (const { status, headers, body } of answers) {
      const id = headers.get("x-request-id");
      const own = lines().filter((line) => line["msg"] === "request" && line["http_request_id"] === id);
      expect(own, `${status} ${JSON.stringify(body)}`).toHaveLength(1);
      expect(own[0]).toMatchObject({
        http_status: status,
        method: expect.stringMatching(/^[A-Z]+$/),
        route: expect.stringMatching(/^(none|\/v1\/[a-z/:_]+)$/),
        duration_ms: expect.any(Number),
        trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
      });
      if (status >= 400) expect(body.trace_id).toBe(own[0]?.["trace_id"]);
    }
  });

  test("names the caller as soon as he is known", () => {
    const known = lines().filter((line) => line["msg"] === "request" && line["http_status"] === 201);
    expect(known.length).toBeGreaterThan(0);
    for (const line of known) {
      expect(line).toMatchObject({
        tenant_id: callers.ann.tenantId,
        user_id: callers.ann.userId,
        requester_type: "user",
      });
    }
    const refused = lines().find((line) => line["msg"] === "request" && line["http_status"] === 401);
    expect(refused).not.toHaveProperty("user_id");
  });

  test("that fails by our fault has its cause on an error line of the same trace", () => {
    const failed = answers.find(({ status }) => status === 500);
    const line = lines().find(({ msg }) => msg === "request failed");
    expect(line).toMatchObject({ trace_id: failed?.body.trace_id, error_code: "internal_error" });
    expect(line).toHaveProperty("err.code");
  });
});

const idFields = [
  "request_id",
  "turn_id",
  "trace_id",
  "http_request_id",
  "correlation_id",
  "provider_request_id",
  "provider_response_id",
  "message_id",
  "message_ids",
];

/** The lines that can be found from one id by following the ids they hold. */
const connected = (start: string): readonly Record<string, unknown>[] => {
  const ids = new Set<unknown>([start]);
  const found = new Set<Record<string, unknown>>();
  for (let size = -1; size !== found.size; ) {
    size = found.size;
    for (const line of lines()) {
      const own = idFields.flatMap((field) => line[field] ?? []);
      if (!own.some((id) => ids.has(id))) continue;
      found.add(line);
      // A delivery names the messages of many turns.
      if (!("message_ids" in line)) for (const id of own) ids.add(id);
    }
  }
  return [...found];
};

describe("a turn", () => {
  const endsOf = ({ requestId }: Turn) =>
    lines().filter((line) => line["msg"] === "turn finalized" && line["request_id"] === requestId);

  test("writes one line at its end, with all that it is known by", async () => {
    for (const one of turns) {
      const { rows } = await app.db.query<{ id: string; state: string; provider_response_id: string | null }>(
        "select id, state, provider_response_id from chat_turns where request_id = $1",
        [one.requestId],
      );
      const [row] = rows;
      expect(row?.state).toBe(one.state);
      const ends = endsOf(one);
      expect(ends, one.state).toHaveLength(1);
      expect(ends[0]).toMatchObject({
        turn_id: row?.id,
        chat_id: one.chatId,
        tenant_id: callers.ann.tenantId,
        user_id: callers.ann.userId,
        state: one.state,
        trace_id: one.traceId,
        ...(row?.provider_response_id == null ? {} : { provider_response_id: row.provider_response_id }),
      });
      if (one.state === "failed") expect(ends[0]?.["error_code"]).toBe("provider_error");
    }
  });

  test.each<[string, (one: Turn, responseId: string | null) => string | null]>([
    ["request id", ({ requestId }) => requestId],
    ["trace id", ({ traceId }) => traceId],
    ["provider response id", (_turn, responseId) => responseId],
  ])(
    "can be followed from its %s alone: request, provider call, end, events, deliveries",
    async (_name, idOf) => {
      for (const one of turns) {
        const { rows } = await app.db.query<{ id: string | null }>(
          "select provider_response_id as id from chat_turns where request_id = $1",
          [one.requestId],
        );
        const start = idOf(one, rows[0]?.id ?? null);
        if (start === null) continue;
        const steps = connected(start).map(({ msg }) => msg);
        expect(steps, one.state).toEqual(
          expect.arrayContaining([
            "request",
            "provider call ended",
            "turn finalized",
            "outbox event enqueued",
            "outbox messages delivered",
          ]),
        );
      }
    },
  );

  test("has its events delivered on lines that name the messages", async () => {
    const delivered = lines().filter(({ msg }) => msg === "outbox messages delivered");
    expect(delivered.length).toBeGreaterThan(0);
    for (const line of delivered) {
      expect(line).toMatchObject({
        kind: expect.any(String),
        message_ids: expect.any(Array),
        partition_id: expect.any(Number),
      });
    }
  });
});
