import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A TCP way to the server that can be cut, as a cable is. */
export interface Cable {
  readonly origin: string;
  /** Cuts every connection and refuses new ones, until `restore`. */
  cut(): void;
  /** Cuts what is open; new connections work. */
  pull(): void;
  /** From now on answers do not arrive, although what is asked is done. */
  holdAnswers(): void;
  restore(): void;
  close(): Promise<void>;
}

export const startCable = async (target: string): Promise<Cable> => {
  const port = Number(new URL(target).port);
  const sockets = new Set<Socket>();
  const pairs = new Set<{ readonly client: Socket; readonly upstream: Socket }>();
  let away = false;
  let held = false;
  const server = createServer((client) => {
    if (away) {
      client.resetAndDestroy();
      return;
    }
    const upstream = connect(port, "127.0.0.1");
    const pair = { client, upstream };
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.pipe(upstream);
    if (held) upstream.resume();
    else upstream.pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const pull = (): void => {
    for (const { client, upstream } of pairs) {
      client.resetAndDestroy();
      upstream.destroy();
    }
  };
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pull,
    cut: () => {
      away = true;
      pull();
    },
    holdAnswers: () => {
      held = true;
      for (const { client, upstream } of pairs) {
        upstream.unpipe(client);
        upstream.resume();
      }
    },
    restore: () => {
      away = false;
      held = false;
    },
    close: async () => {
      pull();
      server.close();
      await once(server, "close");
    },
  };
};
