/**
 * A conversation by way of `@mini-chat/client`: two questions in one chat, the answers printed as they arrive,
 * another answer to the second, and each way a turn can end.
 *
 * Usage: npx node examples/client-chat.ts [base URL] [token]
 */
import { createClient, isInProgress, type Turn } from "../packages/client/src/index.ts"; // installed: "@mini-chat/client"

const client = createClient({
  baseUrl: process.argv[2] ?? "http://127.0.0.1:8087",
  token: process.argv[3] ?? "dev-token",
});

/** Prints an answer; the id of its turn. */
const print = async (turn: Turn): Promise<string> => {
  for await (const { type, data } of turn) {
    if (type === "delta" && data.type === "text") process.stdout.write(data.content);
    if (type === "interrupted") process.stdout.write(" … ");
    if (type === "replaced") process.stdout.write(`\n${data.text}`);
  }
  const result = await turn.result();
  switch (result.state) {
    case "completed":
      console.log(`\n[${result.done?.effective_model}, ${result.done?.usage?.output_tokens} tokens]`);
      return result.requestId;
    case "failed":
      throw new Error(`no answer: ${result.code}`);
    case "cancelled":
      throw new Error("the answer was stopped");
    case "uncertain":
      throw new Error(`nobody can say yet what became of it (${result.reason})`);
  }
};

const ask = (chatId: string, content: string): Promise<string> => {
  console.log(`> ${content}`);
  return print(client.send(chatId, { content }));
};

try {
  const chat = await client.chats.create({ title: "Release notes" });
  await ask(chat.id, "What makes a good release note?");
  const latest = await ask(chat.id, "Say it in one sentence.");
  console.log("> again, please");
  await print(client.turns.retry(chat.id, latest));
  for await (const message of client.messages(chat.id, { select: ["role", "content"] })) {
    console.log(`${message.role}: ${message.content}`);
  }
  await client.chats.remove(chat.id);
} catch (error) {
  if (!isInProgress(error)) throw error;
  console.error("wait for the answer that is on its way");
  process.exitCode = 1;
}
