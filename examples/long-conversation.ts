/**
 * A conversation that lasts, from its first question to its deletion: what happens to it on the way, in the
 * order in which people do it. Each step prints what a reader would see.
 *
 * Usage: npx node examples/long-conversation.ts [base URL] [token]
 */
import { createClient, type Turn } from "../packages/client/src/index.ts"; // installed: "@mini-chat/client"

const client = createClient({
  baseUrl: process.argv[2] ?? "http://127.0.0.1:8087",
  token: process.argv[3] ?? "dev-token",
});

const step = (title: string): void => console.log(`\n# ${title}`);

/** Waits for the answer; everything but a completed turn ends this example. */
const answerOf = async (turn: Turn) => {
  const result = await turn.result();
  if (result.state !== "completed") throw new Error(`the turn ended as ${result.state}`);
  return result;
};

const chat = await client.chats.create({ title: "A trip to the coast" });

step("Send a question");
const first = await answerOf(client.send(chat.id, { content: "Where should we go first?" }));
console.log(first.text);

// The latest turn may be changed. Its question and answer go out of the conversation, and the new
// ones take their place: what the model is sent from now on never had the old ones in it.
step("Put it in other words");
const edited = await answerOf(
  client.turns.edit(chat.id, first.requestId, { content: "Where should we go first, by train?" }),
);
console.log(edited.text);

step("Ask for another answer to the same question");
const retried = await answerOf(client.turns.retry(chat.id, edited.requestId));
console.log(retried.text);

step("Say that it was a good one");
await client.reactions.set(chat.id, retried.messageId, "like");
for await (const { role, content, my_reaction } of client.messages(chat.id)) {
  console.log(`${role}: ${content}${my_reaction === null ? "" : ` [${my_reaction}]`}`);
}

// An answer sent with `continue` is finished whether or not anybody listens.
step("Close the laptop in the middle of an answer");
const laptop = new AbortController();
const interrupted = client.send(
  chat.id,
  { content: "Write down what to pack.", on_disconnect: "continue" },
  { signal: laptop.signal },
);
let seen = "";
try {
  for await (const event of interrupted) {
    if (event.type !== "delta") continue;
    seen += event.data.content;
    laptop.abort();
  }
} catch {
  console.log(`read so far: ${seen}`);
}

step("Open it again, or another device");
const resumed = await answerOf(client.turns.resume(chat.id, interrupted.requestId));
console.log(`the whole answer: ${resumed.text}`);

// The window of a model is finite. Behind the answers, old messages are condensed into a summary, which
// the model is sent in their place; people still see every message.
step("Go on for sixty turns");
let summarised = 0;
let inputTokens = 0;
for (let at = 1; at <= 60; at += 1) {
  const turn = client.send(chat.id, { content: `What about day ${at}?` });
  for await (const event of turn) {
    if (event.type === "stream_started" && event.data.thread_summary_applied) summarised += 1;
  }
  inputTokens = (await answerOf(turn)).done?.usage?.input_tokens ?? inputTokens;
}
let count = 0;
for await (const _ of client.messages(chat.id, { limit: 100 })) count += 1;
console.log(`${count} messages are listed`);
console.log(`${summarised > 0 ? "a summary stood" : "no summary stood"} in for the oldest of them`);
console.log(`the last question took ${inputTokens} input tokens`);

step("Find something in it");
for await (const hit of client.search("train", { limit: 2 })) {
  console.log(`${hit.kind}: ${hit.excerpt}`);
  break;
}

step("Take a copy along");
const copy = await client.chats.export(chat.id, "markdown");
console.log(copy.split("\n", 1)[0]);
console.log(`${copy.length > 1_000 ? "all of it" : "something is missing"}`);

step("Delete it");
await client.chats.remove(chat.id);
const gone = await client.chats.get(chat.id).catch((error: unknown) => error);
console.log(gone instanceof Error && "code" in gone ? gone.code : "still there");
