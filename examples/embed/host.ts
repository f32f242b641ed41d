/**
 * A site of its own that shows the chat as a panel: `npx node examples/embed/host.ts CHAT_ORIGIN TOKEN [PORT]`, for
 * example `npx node examples/embed/host.ts http://127.0.0.1:8087 dev-token 8088`. The chat must allow this site:
 *
 *   page:
 *     frame_ancestors: ["http://127.0.0.1:8088"]
 *
 * A real site gets a short-lived token for the user who is signed in to it; here it is always the same one.
 */

import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { fileURLToPath } from "node:url";

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

export const startHost = async (options: { chat: string; token: string; port?: number }): Promise<Server> => {
  const { chat, token, port = 0 } = options;
  const page = (await readFile(file("index.html"), "utf8")).replaceAll("CHAT_ORIGIN", new URL(chat).origin);
  const script = await readFile(file("panel.js"), "utf8");
  const server = createServer((request, response) => {
    const answer = (type: string, body: string): void => {
      response.writeHead(200, { "content-type": type, "cache-control": "no-store" }).end(body);
    };
    if (request.url === "/") answer("text/html; charset=utf-8", page);
    else if (request.url === "/panel.js") answer("text/javascript; charset=utf-8", script);
    else if (request.url === "/chat-token") answer("application/json", JSON.stringify({ token }));
    else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return server;
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [chat = "http://127.0.0.1:8087", token = "dev-token", port = "8088"] = process.argv.slice(2);
  await startHost({ chat, token, port: Number(port) });
  console.log(`http://127.0.0.1:${port} shows the chat of ${chat}`);
}
