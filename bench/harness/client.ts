import { randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import type { Stack, User } from "./stack.ts";

/** A stream as the load client sees it: bytes off a socket, hardly looked at. */
export interface Opened {
  readonly socket: Socket;
  /** Resolves with the whole answer when the connection is closed; rejects unless it was a complete turn. */
  readonly finished: Promise<string>;
}

export interface SendOptions {
  readonly port: number;
  readonly chatId: string;
  readonly user: User;
  readonly content?: string;
  /** Called with every read, headers included; the bytes are only good until it returns. */
  readonly onBytes?: (bytes: Buffer) => void;
  /** Keep the text for `finished`, else only its end; default true. */
  readonly keep?: boolean;
  /** Another path, for what is compared with the server. */
  readonly path?: string;
  readonly requestId?: string;
  /** Fields besides the content and the id. */
  readonly more?: object;
}

const requestOf = ({ chatId, user, content = "How are you?", path, ...options }: SendOptions): string => {
  const { requestId = randomUUID(), more } = options;
  const body = JSON.stringify({ content, request_id: requestId, ...more });
  return (
    `POST ${path ?? `/v1/chats/${chatId}/messages:stream`} HTTP/1.1\r\nhost: 127.0.0.1\r\n` +
    `authorization: Bearer ${user.token}\r\ncontent-type: application/json\r\nconnection: close\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
};

// All sockets read into the same memory, one after the other: nothing is allocated for a read.
const readBuffer = Buffer.alloc(65_536);

/** Enough of the end of an answer to hold `done`. */
const endBytes = 1_024;

class End {
  readonly #bytes = Buffer.alloc(endBytes);
  #length = 0;

  add(bytes: Buffer): void {
    const added = bytes.subarray(-endBytes);
    const kept = Math.min(this.#length, endBytes - added.length);
    this.#bytes.copyWithin(0, this.#length - kept, this.#length);
    added.copy(this.#bytes, kept);
    this.#length = kept + added.length;
  }

  toString(): string {
    return this.#bytes.toString("latin1", 0, this.#length);
  }
}

/** Sends a message on a connection of its own, by hand: a client library would cost more than the server. */
export const send = (options: SendOptions): Opened => {
  const { promise: finished, resolve, reject } = Promise.withResolvers<string>();
  finished.catch(() => {});
  let text = "";
  const end = options.keep === false ? new End() : null;
  const onRead = (length: number): boolean => {
    const bytes = readBuffer.subarray(0, length);
    options.onBytes?.(bytes);
    if (end === null) text += bytes.toString("latin1");
    else end.add(bytes);
    return true;
  };
  const socket = connect({
    port: options.port,
    host: "127.0.0.1",
    noDelay: true,
    onread: { buffer: readBuffer, callback: onRead },
  });
  // Else the end of the connection would not be noticed.
  socket.resume();
  socket.on("error", reject);
  socket.on("close", () => {
    const received = end === null ? text : end.toString();
    if (received.includes("event: done")) resolve(received);
    else reject(new Error(`no complete turn: ${received.slice(0, 2_000)}`));
  });
  socket.write(requestOf(options));
  return { socket, finished };
};

/** A new chat of each user, `count` in all; their ids in order. */
export const createChats = (
  stack: Pick<Stack, "serverPort" | "users">,
  count: number,
): Promise<{ chatId: string; user: User }[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const user = stack.users[at % stack.users.length];
      if (user === undefined) throw new Error("no users");
      return { user, chatId: await createChat(stack.serverPort, user) };
    }),
  );

const createChat = async (port: number, user: User): Promise<string> => {
  const response = await fetch(`http://127.0.0.1:${port}/v1/chats`, {
    method: "POST",
    headers: { authorization: `Bearer ${user.token}`, "content-type": "application/json" },
    body: "{}",
  });
  const chat: unknown = await response.json();
  if (response.status === 201 && typeof chat === "object" && chat !== null && "id" in chat)
    return String(chat.id);
  throw new Error(`chat not created: ${JSON.stringify(chat)}`);
};

/** Runs `work` for each of the items, at most `limit` at once. */
export const forEachLimited = async <T>(
  items: readonly T[],
  limit: number,
  work: (item: T, at: number) => Promise<void>,
): Promise<void> => {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) {
      const item = items[at];
      if (item !== undefined) await work(item, at);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
};
