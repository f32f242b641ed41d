import { connect, createServer, type Socket } from "node:net";

/** A TCP way to a database that can be cut. */
export interface DatabaseProxy {
  /** The database's URL by way of the proxy. */
  readonly url: string;
  /** Resets every connection; new ones work. */
  cut(): void;
  close(): Promise<void>;
}

export const startDatabaseProxy = async (databaseUrl: string): Promise<DatabaseProxy> => {
  const target = new URL(databaseUrl);
  const socketDir = target.searchParams.get("host");
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream =
      socketDir === null
        ? connect(Number(target.port || 5432), target.hostname)
        : connect(`${socketDir}/.s.PGSQL.${target.port || 5432}`);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.pipe(upstream).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const url = new URL(databaseUrl);
  url.search = "";
  url.hostname = "127.0.0.1";
  url.port = String(port);
  const cut = (): void => {
    for (const socket of sockets) {
      // The database's own socket file knows no reset.
      if (socket.remoteAddress === undefined) socket.destroy();
      else socket.resetAndDestroy();
    }
  };
  return {
    url: url.href,
    cut,
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
