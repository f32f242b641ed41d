import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type Actor, asTenantId, asUserId } from "../../src/auth/actor.ts";
import { type Config, parseConfig } from "../../src/config/schema.ts";
import { AppError, type ErrorCode } from "../../src/errors.ts";

export const tenantA = "aaaaaaaa-0000-4000-8000-00000000000a";
export const tenantB = "bbbbbbbb-0000-4000-8000-00000000000b";
export const userA = "aaaaaaaa-0000-4000-8000-000000000001";
export const userB = "bbbbbbbb-0000-4000-8000-000000000002";

export const actorA: Actor = {
  tenantId: asTenantId(tenantA),
  userId: asUserId(userA),
  subjectType: "user",
  scopes: ["*"],
};

/** A valid configuration with these sections. */
export const configOf = (sections: object): Config =>
  parseConfig({
    client_credentials: { client_id: "chat", client_secret: "secret" },
    plugins: { model_policy: { static: { model_catalog: [] } } },
    ...sections,
  });

/** The code and status a refusal ends with; anything but an `AppError` is thrown on. */
export const refusalOf = async (
  promise: Promise<unknown>,
): Promise<readonly [ErrorCode, number] | "none"> => {
  try {
    await promise;
    return "none";
  } catch (error) {
    if (error instanceof AppError) return [error.code, error.status];
    throw error;
  }
};

export interface LocalServer {
  readonly url: string;
  /** Bodies of the requests so far. */
  readonly bodies: readonly string[];
  /** Refuses connections from now on. */
  close(): Promise<void>;
}

/** An HTTP server on loopback, gone when the test is over. */
export const startServer = async (
  answer: (response: ServerResponse, request: IncomingMessage, body: string) => void,
): Promise<LocalServer> => {
  const bodies: string[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    bodies.push(body);
    answer(response, request, body);
  };
  const server = createServer((request, response) => void handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return { url: `http://127.0.0.1:${port}/`, bodies, close };
};

export const sendJson = (response: ServerResponse, value: unknown): void => {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
};
