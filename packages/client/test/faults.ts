import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** What befalls a connection. Offsets count the bytes of one direction. */
export interface Fault {
  /** The connection is cut when so many bytes of the request went through. */
  readonly request?: number;
  /** The connection is cut when so many bytes of the answer went through. */
  readonly response?: number;
  /** The answer waits so long, and each of its pieces. */
  readonly delayMs?: number;
  /** After so many bytes of the answer nothing more comes, and the connection stays open. */
  readonly silentAfter?: number;
}

export interface FaultProxy {
  /** Where the server is by way of the proxy, without `/v1`. */
  readonly origin: string;
  /** Bytes of the first connection so far. */
  readonly first: { request: number; response: number };
  readonly connections: number;
  close(): Promise<void>;
}

/** Passes bytes on until the limit, then calls `onLimit`; says how many went through. */
const relay = (
  from: Socket,
  to: Socket,
  limit: number,
  pass: (run: () => void) => void,
  onLimit: () => void,
  count: (bytes: number) => void,
): void => {
  let left = limit;
  from.on("data", (chunk) => {
    if (left < 0) return;
    const part = chunk.subarray(0, Math.min(left, chunk.length));
    left -= part.length;
    count(part.length);
    const end = left === 0 && limit !== Number.POSITIVE_INFINITY;
    if (end) left = -1;
    pass(() => {
      if (end) to.write(part, onLimit);
      else to.write(part);
    });
  });
  from.on("end", () => pass(() => to.end()));
};

/**
 * A TCP way to a server on which `faults` befall the connections in the order they come; the last of the list
 * befalls all further ones. An empty fault does nothing.
 */
export const startFaultProxy = async (target: string, ...faults: readonly Fault[]): Promise<FaultProxy> => {
  const port = Number(new URL(target).port);
  const sockets = new Set<Socket>();
  const first = { request: 0, response: 0 };
  let connections = 0;
  const server = createServer((client) => {
    const fault = faults[Math.min(connections, faults.length - 1)] ?? {};
    const isFirst = connections === 0;
    connections += 1;
    const upstream = connect(port, "127.0.0.1");
    const cut = (): void => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", cut).on("close", () => {
        sockets.delete(socket);
        // The other side of a cable that was pulled; an orderly end was passed on before.
        if (!socket.readableEnded) cut();
      });
    }
    if (fault.request === 0) return cut();
    relay(
      client,
      upstream,
      fault.request ?? Number.POSITIVE_INFINITY,
      (run) => run(),
      cut,
      (bytes) => {
        if (isFirst) first.request += bytes;
      },
    );
    const late = (run: () => void): void => {
      if (fault.delayMs === undefined) run();
      else setTimeout(run, fault.delayMs);
    };
    const silent = fault.silentAfter;
    const limit = silent ?? fault.response ?? Number.POSITIVE_INFINITY;
    const count = (bytes: number): void => {
      if (isFirst) first.response += bytes;
    };
    if (limit === 0) upstream.once("data", silent === undefined ? cut : () => {});
    else relay(upstream, client, limit, late, silent === undefined ? cut : () => {}, count);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    first,
    get connections() {
      return connections;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
};
