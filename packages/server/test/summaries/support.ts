import type { CapturedRequest } from "@mini-chat/simulator";
import type { Tree } from "../../src/config/tree.ts";
import { eventually, startTestApp, type TestApp, type TestAppOptions } from "../support/app.ts";
import { modelEntry } from "../support/config.ts";

/** A model with room for few messages, and prices as everywhere. */
export const smallModel = (more: Tree = {}): Tree =>
  modelEntry("small", {
    context_window: 4_096,
    max_input_tokens: 4_096,
    max_output_tokens: 1_024,
    preference: { is_default: true, sort_order: 0 },
    ...more,
  });

/** The catalog of these tests: chats use the first model. */
export const catalog = (...models: readonly Tree[]): Tree => ({
  plugins: { model_policy: { static: { model_catalog: [...models] } }, usage: { type: "log" } },
});

export const summaryApp = (options: TestAppOptions = {}): Promise<TestApp> =>
  startTestApp({
    ...options,
    overrides: {
      queues: { thread_summary: { leaseMs: 30_000 } },
      ...options.overrides,
    },
  });

export interface SummaryRow {
  readonly id: string;
  readonly text: string;
  readonly tokens: number;
  readonly createdAt: string;
  readonly messageId: string;
}

/** The summary of a chat as stored. */
export const storedSummary = async (app: TestApp, chatId: string): Promise<SummaryRow | undefined> =>
  (
    await app.db.query<SummaryRow>(
      `select id, summary_text as "text", token_estimate as tokens,
         summarized_up_to_created_at as "createdAt", summarized_up_to_message_id as "messageId"
       from thread_summaries
       where chat_id = $1`,
      [chatId],
    )
  ).rows[0];

export interface MessageRow {
  readonly id: string;
  readonly role: string;
  readonly content: string;
  readonly compressed: boolean;
  readonly deleted: boolean;
  readonly createdAt: string;
}

/** All messages of a chat, oldest first. */
export const storedMessages = async (app: TestApp, chatId: string): Promise<MessageRow[]> =>
  (
    await app.db.query<MessageRow>(
      `select id, role, content, is_compressed as compressed, deleted_at is not null as deleted,
         created_at as "createdAt"
       from messages
       where chat_id = $1
       order by created_at, id`,
      [chatId],
    )
  ).rows;

const queueOf = async (app: TestApp, queue: string): Promise<Record<string, unknown>[]> =>
  (
    await app.db.query<{ payload: string }>(
      `select m.payload
       from outbox_message m
       join outbox_partition p on p.id = m.partition_id
       where p.queue = $1
       order by m.id`,
      [queue],
    )
  ).rows.map(({ payload }) => JSON.parse(payload) as Record<string, unknown>);

/** Summary tasks that are not acknowledged yet. */
export const waitingTasks = (app: TestApp): Promise<Record<string, unknown>[]> =>
  queueOf(app, app.config.outbox.thread_summary_queue_name);

/** Resolves when every summary task is acknowledged or dead. */
export const summariesSettled = (app: TestApp): Promise<void> =>
  eventually(async () => (await waitingTasks(app)).length === 0);

/** Calls for a summary so far, oldest first. */
export const summaryCalls = (app: Pick<TestApp, "simulator">): CapturedRequest[] =>
  app.simulator.requests().filter((request) => requestType(request) === "summary");

/** Calls for an answer so far, oldest first. */
export const chatCalls = (app: Pick<TestApp, "simulator">): CapturedRequest[] =>
  app.simulator.requests().filter((request) => requestType(request) === "chat");

const bodyOf = ({ body }: CapturedRequest): Record<string, unknown> => body as Record<string, unknown>;

const requestType = (request: CapturedRequest): unknown =>
  (bodyOf(request)?.["metadata"] as Record<string, unknown> | undefined)?.["request_type"];

export const instructionsOf = (request: CapturedRequest): string =>
  String(bodyOf(request)["instructions"] ?? "");

interface InputMessage {
  readonly role: string;
  readonly content: readonly { readonly text: string }[];
}

/** The messages of a captured request, `u:…` and `a:…`. */
export const inputOf = (request: CapturedRequest): string[] =>
  (bodyOf(request)["input"] as InputMessage[]).map(
    ({ role, content }) => `${role.charAt(0)}:${content.map((part) => part.text).join("")}`,
  );

/** A text of exactly so many bytes that names itself. */
export const sized = (name: string, bytes: number): string => name.padEnd(bytes, ".");

/** Usage events of summaries that were delivered to the log. */
export const systemUsage = (app: TestApp): Record<string, unknown>[] =>
  app.logs
    .filter((line) => line["msg"] === "usage event")
    .map((line) => line["event"] as Record<string, unknown>)
    .filter((event) => event["requester_type"] === "system");
