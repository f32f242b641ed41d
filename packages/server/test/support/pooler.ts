import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { addressOf } from "./proxy.ts";

/** A transaction-mode pooler before a database that asks for no password. */
export interface Pooler {
  readonly url: string;
  close(): Promise<void>;
}

/** A session of the database, lent to one client at a time. */
interface Session {
  readonly socket: Socket;
  /** What the database said when the session began; each client is told the same. */
  greeting: Buffer;
  client: Socket | null;
  unread: Buffer;
}

const readyForQuery = "Z".charCodeAt(0);
const idle = "I".charCodeAt(0);

/**
 * Lends the same few sessions to all its clients, each for the time of one transaction, the last one given
 * back first. Enough for clients that wait for an answer before they ask again.
 */
export const startPooler = async (databaseUrl: string, sessionCount = 2): Promise<Pooler> => {
  const sessions = await Promise.all(Array.from({ length: sessionCount }, () => openSession(databaseUrl)));
  const free = [...sessions];
  const waiting: (() => void)[] = [];
  for (const session of sessions) {
    session.socket.on("data", (bytes: Buffer) => {
      session.client?.write(bytes);
      if (!endsTransaction(session, bytes)) return;
      session.client = null;
      free.push(session);
      waiting.shift()?.();
    });
  }
  const server = createServer((client) => {
    let greeted = false;
    const ask = (request: Buffer): void => {
      const session = sessions.find((one) => one.client === client) ?? free.pop();
      if (session === undefined) return void waiting.push(() => ask(request));
      session.client = client;
      session.socket.write(request);
    };
    client.on("error", () => {});
    client.on("data", (bytes: Buffer) => {
      // A farewell ends the client, not the session.
      if (bytes[0] === "X".charCodeAt(0)) client.end();
      else if (greeted) ask(bytes);
      else {
        greeted = true;
        client.write(sessions[0]?.greeting ?? "");
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const url = new URL(databaseUrl);
  url.search = "";
  url.hostname = "127.0.0.1";
  url.port = String(typeof address === "object" && address !== null ? address.port : 0);
  return {
    url: url.href,
    close: async () => {
      for (const { socket, client } of sessions) {
        client?.destroy();
        socket.destroy();
      }
      server.close();
    },
  };
};

const openSession = async (databaseUrl: string): Promise<Session> => {
  const socket = connect(addressOf(databaseUrl));
  const { username, pathname } = new URL(databaseUrl);
  const parameters = Buffer.from(`user\0${username}\0database\0${pathname.slice(1)}\0\0`);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(head.length + parameters.length);
  head.writeUInt32BE(196_608, 4);
  socket.write(Buffer.concat([head, parameters]));
  const session: Session = { socket, greeting: Buffer.alloc(0), client: null, unread: Buffer.alloc(0) };
  for (;;) {
    const [bytes] = (await once(socket, "data")) as [Buffer];
    session.greeting = Buffer.concat([session.greeting, bytes]);
    if (endsTransaction(session, bytes)) return session;
  }
};

/** Reads on in the session's messages; whether the last is that it waits outside a transaction. */
const endsTransaction = (session: Session, bytes: Buffer): boolean => {
  let rest = Buffer.concat([session.unread, bytes]);
  let ended = false;
  while (rest.length >= 5 && rest.length > rest.readUInt32BE(1)) {
    const next = 1 + rest.readUInt32BE(1);
    ended = rest[0] === readyForQuery && rest[5] === idle;
    rest = rest.subarray(next);
  }
  session.unread = rest;
  return ended;
};
