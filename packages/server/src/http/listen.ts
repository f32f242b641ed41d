import type { Server } from "node:http";
import type { Socket } from "node:net";
import { parseHostPort } from "../config/fields.ts";
import { invariant } from "../lib/assert.ts";
import type { ApiServer } from "./base.ts";

/** Where a listener is bound. */
export interface Listening {
  readonly address: string;
  readonly port: number;
}

/** Binds `host:port`; port 0 takes a free one. Rejects when the address is taken. */
export const listen = async (app: ApiServer, bindAddress: string): Promise<Listening> => {
  const target = parseHostPort(bindAddress);
  invariant(target !== null, "the configuration admits only host:port");
  const open = new Set<Socket>();
  sockets.set(app.server, open);
  app.server.on("connection", (socket: Socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  await app.listen({ host: target.host, port: target.port });
  const bound = app.server.address();
  invariant(typeof bound === "object" && bound !== null, "a TCP listener has an address");
  return { address: bound.address, port: bound.port };
};

const sockets = new WeakMap<Server, Set<Socket>>();

const idleCheckMs = 20;

/** Node takes a connection for idle once its answer was ended, also while a slow reader has not got it. */
const stillSending = (server: Server): boolean =>
  [...(sockets.get(server) ?? [])].some((socket) => socket.writableLength > 0);

/**
 * Stops accepting and resolves when the last answer is out. Connections that become idle meanwhile are
 * closed at once; they would hold the server for their whole keep-alive time.
 */
export const closeGently = async (app: ApiServer): Promise<void> => {
  const timer = setInterval(() => {
    if (!stillSending(app.server)) app.server.closeIdleConnections();
  }, idleCheckMs);
  try {
    await app.close();
  } finally {
    clearInterval(timer);
  }
};
