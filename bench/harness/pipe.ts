import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

// What the server's relay is compared with: asks the provider and passes its bytes on, nothing else.
// `/http` does so with streams of the HTTP module, `/fetch` with those of fetch.

const providerPort = Number(process.argv[2]);
const body = JSON.stringify({ model: "any", stream: true, input: [{ role: "user", content: "any" }] });
const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
const agent = new Agent({ keepAlive: true });
const streamHeaders = { "content-type": "text/event-stream", connection: "close" };

const byHttp = (response: ServerResponse): void => {
  const upstream = httpRequest(
    { port: providerPort, host: "127.0.0.1", path: "/v1/responses", method: "POST", agent, headers },
    (answer: IncomingMessage) => {
      response.writeHead(200, streamHeaders);
      answer.pipe(response);
    },
  );
  upstream.on("error", () => response.destroy());
  response.on("close", () => upstream.destroy());
  upstream.end(body);
};

const byFetch = async (response: ServerResponse): Promise<void> => {
  const leaving = new AbortController();
  response.on("close", () => leaving.abort());
  const answer = await fetch(`http://127.0.0.1:${providerPort}/v1/responses`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
    signal: leaving.signal,
  });
  response.writeHead(200, streamHeaders);
  if (answer.body !== null) await pipeline(Readable.fromWeb(answer.body), response);
};

const server = createServer((request, response) => {
  request.resume();
  response.on("error", () => {});
  if (request.url === "/fetch") byFetch(response).catch(() => response.destroy());
  else byHttp(response);
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
  const address = server.address();
  if (typeof address === "object" && address !== null) console.log(`http://127.0.0.1:${address.port}`);
});
