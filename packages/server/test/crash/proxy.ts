import { once } from "node:events";
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from "node:net";

/** Stands between a server process and the database, to lose what travels between them. */
export interface DatabaseProxy {
  readonly url: string;
  /** From now on the answers of the database do not arrive; what was asked is done all the same. */
  holdAnswers(): void;
  /** Cuts every connection and refuses new ones, until `restore`. */
  cut(): void;
  restore(): void;
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly upstream: Socket;
}

export const startDatabaseProxy = async (databaseUrl: string): Promise<DatabaseProxy> => {
  const target = addressOf(databaseUrl);
  const pairs = new Set<Pair>();
  let away = false;
  const server = createServer((client) => {
    if (away) {
      client.resetAndDestroy();
      return;
    }
    const pair = { client, upstream: connect(target) };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      pair.upstream.destroy();
    };
    for (const socket of [client, pair.upstream]) socket.on("error", end).on("close", end);
    client.pipe(pair.upstream);
    pair.upstream.pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(databaseUrl);
  url.search = "";
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const cutAll = (): void => {
    for (const { client, upstream } of pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  };
  return {
    url: url.href,
    holdAnswers: () => {
      for (const { client, upstream } of pairs) upstream.unpipe(client);
    },
    cut: () => {
      away = true;
      cutAll();
    },
    restore: () => {
      away = false;
    },
    close: async () => {
      cutAll();
      server.close();
      await once(server, "close");
    },
  };
};

/** A server on a socket file is named by `?host=DIRECTORY`. */
const addressOf = (databaseUrl: string): NetConnectOpts => {
  const { hostname, port, searchParams } = new URL(databaseUrl);
  const directory = searchParams.get("host");
  const number = port === "" ? "5432" : port;
  return directory === null
    ? { host: hostname, port: Number(number) }
    : { path: `${directory}/.s.PGSQL.${number}` };
};
