/**
 * What `@mini-chat/client` does when the connection breaks: this example breaks it itself, after the first
 * piece of the answer. Sent with `on_disconnect: "continue"` the answer goes on; without it the server stops it,
 * and the client says so. Nothing is ever sent twice.
 *
 * Usage: npx node examples/client-recover.ts [base URL] [token]
 */
import { createClient } from "../packages/client/src/index.ts"; // installed: "@mini-chat/client"

/** A network that loses a sent message's stream after its first delta. */
const badNetwork: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  if (!String(input).endsWith(":stream")) return response;
  const decoder = new TextDecoder();
  const lossy = new TransformStream<Uint8Array, Uint8Array>({
    transform: (chunk, controller) => {
      controller.enqueue(chunk);
      if (decoder.decode(chunk, { stream: true }).includes("event: delta"))
        controller.error(new Error("lost"));
    },
  });
  return new Response(response.body?.pipeThrough(lossy) ?? null, response);
};

const client = createClient({
  baseUrl: process.argv[2] ?? "http://127.0.0.1:8087",
  token: process.argv[3] ?? "dev-token",
  fetch: badNetwork,
});

const chat = await client.chats.create({ title: "On a train" });
for (const on_disconnect of ["continue", "cancel"] as const) {
  const turn = client.send(chat.id, { content: "Tell me something long.", on_disconnect });
  for await (const { type } of turn) {
    if (type === "interrupted" || type === "resumed") console.log(`${on_disconnect}: ${type}`);
  }
  const { state, recovered, text } = await turn.result();
  console.log(`${on_disconnect}: ${state}, ${recovered}${state === "completed" ? `: ${text}` : ""}`);
}
await client.chats.remove(chat.id);
