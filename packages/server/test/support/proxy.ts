import { once } from "node:events";
import { type AddressInfo, connect, createServer, type NetConnectOpts, type Socket } from "node:net";

/** A TCP way to a database, on which what travels can be lost. */
export interface DatabaseProxy {
  /** The database's URL by way of the proxy. */
  readonly url: string;
  /**
   * From now on the answers of the database do not arrive, on the connections that are open or on that of
   * one backend; what was asked is done all the same.
   */
  holdAnswers(backend?: number): void;
  /** Cuts that backend's connection, or every one there is; new ones work. */
  cutOpen(backend?: number): void;
  /** Cuts every connection and refuses new ones, until `restore`. */
  cut(): void;
  restore(): void;
  close(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly upstream: Socket;
  /** Process id of the session, as the database tells it in the first answer. */
  backend: number;
}

/** Head of the message that tells it (BackendKeyData). */
const keyData = Buffer.from([0x4b, 0, 0, 0, 12]);

export const startDatabaseProxy = async (databaseUrl: string): Promise<DatabaseProxy> => {
  const target = addressOf(databaseUrl);
  const pairs = new Set<Pair>();
  let away = false;
  const server = createServer((client) => {
    if (away) {
      client.resetAndDestroy();
      return;
    }
    const pair: Pair = { client, upstream: connect(target), backend: 0 };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      pair.upstream.destroy();
    };
    for (const socket of [client, pair.upstream]) socket.on("error", end).on("close", end);
    pair.upstream.on("data", (bytes: Buffer) => {
      const at = pair.backend === 0 ? bytes.indexOf(keyData) : -1;
      if (at >= 0) pair.backend = bytes.readUInt32BE(at + keyData.length);
    });
    client.pipe(pair.upstream);
    pair.upstream.pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(databaseUrl);
  url.search = "";
  url.hostname = "127.0.0.1";
  url.port = String((server.address() as AddressInfo).port);
  const of = (backend?: number): Pair[] =>
    [...pairs].filter((pair) => backend === undefined || pair.backend === backend);
  const cutOpen = (backend?: number): void => {
    for (const { client, upstream } of of(backend)) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  };
  return {
    url: url.href,
    holdAnswers: (backend) => {
      for (const { client, upstream } of of(backend)) upstream.unpipe(client);
    },
    cutOpen,
    cut: () => {
      away = true;
      cutOpen();
    },
    restore: () => {
      away = false;
    },
    close: async () => {
      cutOpen();
      server.close();
      await once(server, "close");
    },
  };
};

/** A server on a socket file is named by `?host=DIRECTORY`. */
export const addressOf = (databaseUrl: string): NetConnectOpts => {
  const { hostname, port, searchParams } = new URL(databaseUrl);
  const directory = searchParams.get("host");
  const number = port === "" ? "5432" : port;
  return directory === null
    ? { host: hostname, port: Number(number) }
    : { path: `${directory}/.s.PGSQL.${number}` };
};
