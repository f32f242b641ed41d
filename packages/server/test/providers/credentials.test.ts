import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import {
  chunk,
  completed,
  drain,
  entry,
  lastChunk,
  registryOf,
  type ScriptedProvider,
  startScriptedProvider,
  stream,
  streamHead,
  whole,
} from "./support.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

interface TokenServer {
  readonly url: string;
  readonly forms: URLSearchParams[];
}

const startTokenServer = async (
  answer: (response: ServerResponse, count: number) => void,
): Promise<TokenServer> => {
  const forms: URLSearchParams[] = [];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let text = "";
    for await (const piece of request) text += String(piece);
    forms.push(new URLSearchParams(text));
    answer(response, forms.length);
  };
  const server = createServer((request, response) => void handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  opened.push({
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, forms };
};

const token = (response: ServerResponse, count: number, expiresIn: number): void => {
  response.end(JSON.stringify({ access_token: `token-${count}`, expires_in: expiresIn }));
};

const secrets = { id: "client-1", secret: "s3cret-value" };

const startProvider = async (): Promise<ScriptedProvider> => {
  const provider = await startScriptedProvider(({ socket }) =>
    socket.write(streamHead + chunk(completed()) + lastChunk),
  );
  opened.push(provider);
  return provider;
};

const auth = (url: string): Record<string, unknown> => ({
  kind: "oauth2_client_credentials",
  token_url: url,
  client_id_ref: "id",
  client_secret_ref: "secret",
  scopes: ["a", "b"],
});

describe("OAuth 2.0 client credentials (providers.md §8.4)", () => {
  test("one token serves all calls until min(300 s, expires_in − 30 s)", async () => {
    const tokens = await startTokenServer((response, count) =>
      token(response, count, count === 1 ? 100 : 900),
    );
    const { port, requests } = await startProvider();
    const time = { at: 0, now: () => time.at };
    const registry = registryOf({ p: entry(port, { auth: auth(tokens.url) }) }, { secrets, clock: time });
    opened.push(registry);
    await Promise.all([drain(stream(registry)), drain(stream(registry))]);
    for (const at of [69_999, 70_000, 369_999, 370_000]) {
      time.at = at;
      await drain(stream(registry));
    }
    expect(requests.map(({ headers }) => headers.authorization)).toEqual([
      "Bearer token-1",
      "Bearer token-1",
      "Bearer token-1",
      "Bearer token-2",
      "Bearer token-2",
      "Bearer token-3",
    ]);
    expect(Object.fromEntries(tokens.forms[0] ?? [])).toEqual({
      grant_type: "client_credentials",
      client_id: "client-1",
      client_secret: "s3cret-value",
      scope: "a b",
    });
  });

  test("a token the provider refuses is not used again", async () => {
    const tokens = await startTokenServer((response, count) => token(response, count, 900));
    const provider = await startScriptedProvider(({ socket }, count) =>
      socket.write(count === 1 ? whole(401, "x") : streamHead + chunk(completed()) + lastChunk),
    );
    const registry = registryOf({ p: entry(provider.port, { auth: auth(tokens.url) }) }, { secrets });
    opened.push(provider, registry);
    await drain(stream(registry));
    await drain(stream(registry));
    expect(provider.requests.map(({ headers }) => headers.authorization)).toEqual([
      "Bearer token-1",
      "Bearer token-2",
    ]);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ["refuses", (response) => response.writeHead(401).end(`no ${secrets.secret}`)],
    ["redirects", (response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end()],
    ["sends no token", (response) => response.end("{}")],
    ["breaks off", (response) => response.destroy()],
  ])("a token endpoint that %s: unavailable, before the request", async (_name, answer) => {
    const tokens = await startTokenServer(answer);
    const { port, requests } = await startProvider();
    const registry = registryOf({ p: entry(port, { auth: auth(tokens.url) }) }, { secrets });
    opened.push(registry);
    const { outcome } = await drain(stream(registry));
    expect(outcome).toMatchObject({
      code: "provider_error",
      message: "provider is unavailable",
      started: false,
    });
    expect(JSON.stringify(outcome)).not.toContain(secrets.secret);
    expect(requests).toHaveLength(0);
  });

  test("an abort does not wait for the token", async () => {
    const controller = new AbortController();
    const tokens = await startTokenServer(() => controller.abort());
    const { port } = await startProvider();
    const registry = registryOf({ p: entry(port, { auth: auth(tokens.url) }) }, { secrets });
    opened.push(registry);
    const { outcome } = await drain(stream(registry, controller.signal));
    expect(outcome).toEqual({ kind: "aborted", started: false });
  });

  test("a missing secret: internal_error, nobody is asked", async () => {
    const tokens = await startTokenServer(() => {});
    const { port } = await startProvider();
    const registry = registryOf(
      { p: entry(port, { auth: auth(tokens.url) }) },
      { secrets: { id: "client-1" } },
    );
    opened.push(registry);
    const { outcome } = await drain(stream(registry));
    expect(outcome).toMatchObject({ code: "internal_error", started: false });
    expect(tokens.forms).toHaveLength(0);
  });
});
