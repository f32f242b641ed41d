import { once } from "node:events";
import { createConnection, createServer, type Socket } from "node:net";

/** A way to a database that can be taken away and given back. */
export interface Cuttable {
  readonly url: string;
  /** Ends every connection and refuses new ones. */
  cut(): Promise<void>;
  restore(): Promise<void>;
}

/** Passes connections through to the database of the URL. */
export const cuttable = async (databaseUrl: string): Promise<Cuttable> => {
  const target = new URL(databaseUrl);
  const socketDir = target.searchParams.get("host");
  const port = Number(target.port || 5432);
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    // Connections end abruptly here on purpose.
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    return socket;
  };
  const server = createServer((client) => {
    const place =
      socketDir === null ? { host: target.hostname, port } : { path: `${socketDir}/.s.PGSQL.${port}` };
    const upstream = keep(createConnection(place));
    keep(client).pipe(upstream).pipe(client);
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => client.destroy());
  });
  const listen = async (at: number): Promise<number> => {
    server.listen(at, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  };
  const bound = await listen(0);
  const url = new URL(databaseUrl);
  url.search = "";
  url.hostname = "127.0.0.1";
  url.port = String(bound);
  return {
    url: url.href,
    cut: async () => {
      if (!server.listening) return;
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    restore: async () => {
      await listen(bound);
    },
  };
};
