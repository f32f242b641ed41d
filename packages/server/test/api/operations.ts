import { randomUUID } from "node:crypto";
import { type Caller, callers } from "../support/config.ts";
import type { Operation } from "./document.ts";
import type { ApiApp } from "./support.ts";

/** What a request may name: things of one caller, as they stand after one answered message. */
export interface Resources {
  readonly chatId: string;
  /** Of the latest turn, completed. */
  readonly requestId: string;
  /** The answer of that turn. */
  readonly messageId: string;
  /** A ready document that no message refers to. */
  readonly attachmentId: string;
}

export interface Expectation {
  /** Which limited token may do this (data.md §6); a send asks for `read` and `send_message`. */
  readonly scope: "read" | "write" | "both";
  /** Titles by the kind of route (api.md §5.2). */
  readonly forbidden: "Forbidden" | "forbidden" | "Access denied";
  readonly chatNotFound?: "Chat Not Found" | "Chat not found" | "chat_not_found" | "Error";
  /** What lives in the chat and is named in the path: its refusal as `code title`. */
  readonly child?: { readonly id: Exclude<keyof Resources, "chatId">; readonly notFound: string };
  /** A turn or an attachment of another user in a chat of the caller's is refused with 403. */
  readonly ownedBy?: "chat_turns.requester_user_id" | "attachments.uploaded_by_user_id";
  readonly success: number;
  /** Query keys it cannot do without. */
  readonly query?: string;
  /** A body that is accepted. */
  readonly body?: () => Readonly<Record<string, unknown>> | FormData;
}

const form = (): FormData => {
  const body = new FormData();
  body.set("file", new File(["Two items are due."], "plan.txt", { type: "text/plain" }));
  return body;
};

const chat = { forbidden: "Access denied", chatNotFound: "Chat Not Found" } as const;
const reaction = {
  ...chat,
  child: { id: "messageId", notFound: "message_not_found Message Not Found" },
} as const;
const turn = {
  forbidden: "forbidden",
  chatNotFound: "chat_not_found",
  child: { id: "requestId", notFound: "turn_not_found turn_not_found" },
} as const;
const ownTurn = { ...turn, ownedBy: "chat_turns.requester_user_id" } as const;
const upload = { forbidden: "Access denied", chatNotFound: "Chat not found" } as const;
const attachment = {
  ...upload,
  child: { id: "attachmentId", notFound: "attachment_not_found Attachment not found" },
} as const;

/** Every endpoint of api.md §2. A route without a row fails the tests that are generated from the document. */
export const expectations: Readonly<Record<string, Expectation>> = {
  "POST /chats": {
    scope: "write",
    forbidden: "Access denied",
    success: 201,
    body: () => ({ title: "Plans" }),
  },
  "GET /chats": { scope: "read", forbidden: "Access denied", success: 200 },
  "GET /chats/{id}": { ...chat, scope: "read", success: 200 },
  "PATCH /chats/{id}": { ...chat, scope: "write", success: 200, body: () => ({ title: "New plans" }) },
  "DELETE /chats/{id}": { ...chat, scope: "write", success: 204 },
  "GET /chats/{id}/messages": { ...chat, scope: "read", success: 200 },
  "GET /chats/{id}/export": { ...chat, scope: "read", success: 200 },
  "GET /search": { scope: "read", forbidden: "Access denied", success: 200, query: "q=simulator" },
  "POST /chats/{id}/messages:stream": {
    scope: "both",
    forbidden: "Forbidden",
    chatNotFound: "Error",
    success: 200,
    body: () => ({ content: "PING" }),
  },
  "PUT /chats/{id}/messages/{msg_id}/reaction": {
    ...reaction,
    scope: "write",
    success: 200,
    body: () => ({ reaction: "like" }),
  },
  "DELETE /chats/{id}/messages/{msg_id}/reaction": { ...reaction, scope: "write", success: 204 },
  "GET /chats/{id}/turns/{request_id}": { ...turn, scope: "read", success: 200 },
  "POST /chats/{id}/turns/{request_id}/retry": { ...ownTurn, scope: "write", success: 200 },
  "PATCH /chats/{id}/turns/{request_id}": {
    ...ownTurn,
    scope: "write",
    success: 200,
    body: () => ({ content: "PING" }),
  },
  "DELETE /chats/{id}/turns/{request_id}": { ...ownTurn, scope: "write", success: 204 },
  "POST /chats/{id}/turns/{request_id}/cancel": { ...turn, scope: "write", success: 200 },
  "GET /chats/{id}/turns/{request_id}/stream": { ...turn, scope: "read", success: 200 },
  "POST /chats/{id}/attachments": { ...upload, scope: "write", success: 201, body: form },
  "GET /chats/{id}/attachments/{attachment_id}": { ...attachment, scope: "read", success: 200 },
  "DELETE /chats/{id}/attachments/{attachment_id}": {
    ...attachment,
    scope: "write",
    success: 204,
    ownedBy: "attachments.uploaded_by_user_id",
  },
  "GET /models": { scope: "read", forbidden: "Access denied", success: 200 },
  "GET /models/{model_id}": { scope: "read", forbidden: "Access denied", success: 200 },
  "GET /quota/status": { scope: "read", forbidden: "Access denied", success: 200 },
};

/** The row of an operation; fails for a route nobody thought about. */
export const expectationOf = ({ method, path }: Operation): Expectation => {
  const row = expectations[`${method} ${path}`];
  if (row === undefined) throw new Error(`${method} ${path} has no row in test/api/operations.ts`);
  return row;
};

/** The path of a request for these resources. */
export const pathOf = ({ method, path }: Operation, of: Resources): string => {
  const query = expectations[`${method} ${path}`]?.query;
  const filled = path
    .replace("{id}", of.chatId)
    .replace("{request_id}", of.requestId)
    .replace("{msg_id}", of.messageId)
    .replace("{attachment_id}", of.attachmentId)
    .replace("{model_id}", "standard");
  return query === undefined ? filled : `${filled}?${query}`;
};

/** Ids nobody has. */
export const randomResources = (): Resources => ({
  chatId: randomUUID(),
  requestId: randomUUID(),
  messageId: randomUUID(),
  attachmentId: randomUUID(),
});

/** A chat of the caller with one answered message and one document. */
export const makeResources = async (app: ApiApp, caller: Caller = callers.ann): Promise<Resources> => {
  const chatId = await app.createChat(caller);
  const { requestId } = await app.ask(chatId, "PING", caller);
  const messages = await app.call("GET", `/chats/${chatId}/messages`, { caller });
  return {
    chatId,
    requestId,
    messageId: messages.body.items[1].id,
    attachmentId: await addDocument(app, caller, chatId),
  };
};

/** Stores a ready document, as an upload leaves it behind. */
export const addDocument = async (app: ApiApp, caller: Caller, chatId: string): Promise<string> => {
  const id = randomUUID();
  await app.db.query(
    `insert into attachments (
       id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes, storage_backend,
       provider_id, provider_file_id, status, attachment_kind, for_file_search
     ) values ($1, $2, $3, $4, 'plan.txt', 'text/plain', 18, 'memory', 'sim', $5, 'ready', 'document', true)`,
    [id, caller.tenantId, chatId, caller.userId, `file-${id}`],
  );
  return id;
};
