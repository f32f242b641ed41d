/**
 * A conversation in TypeScript with nothing but `fetch`: two questions in one chat, the answer
 * printed as it arrives, and the rule every client needs: after a broken stream ask the turn's
 * status instead of sending again.
 *
 * Usage: npx node examples/conversation.ts [base URL] [token]
 */
const base = `${process.argv[2] ?? "http://127.0.0.1:8087"}/v1`;
const token = process.argv[3] ?? "dev-token";

const call = async (path: string, method = "GET", body?: object): Promise<Response> => {
  const response = await fetch(base + path, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (response.ok) return response;
  // Every refusal is a problem with a stable code.
  const problem = (await response.json()) as { code: string; detail: string };
  throw new Error(`${problem.code}: ${problem.detail}`);
};

interface StreamEvent {
  readonly name: string;
  readonly data: Record<string, unknown>;
}

/** The events of a stream; lines starting with a colon are keep-alives. */
async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  let buffered = "";
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    buffered += chunk;
    const frames = buffered.split("\n\n");
    buffered = frames.pop() ?? "";
    for (const frame of frames) {
      const name = /^event: (.*)$/m.exec(frame)?.[1];
      const data = /^data: (.*)$/m.exec(frame)?.[1];
      if (name !== undefined && data !== undefined) yield { name, data: JSON.parse(data) };
    }
  }
}

const ask = async (chatId: string, content: string): Promise<void> => {
  const requestId = crypto.randomUUID();
  console.log(`> ${content}`);
  const response = await call(`/chats/${chatId}/messages:stream`, "POST", { request_id: requestId, content });
  if (response.body === null) throw new Error("no stream");
  let ended = false;
  for await (const event of readEvents(response.body)) {
    if (event.name === "delta") process.stdout.write(String(event.data["content"]));
    if (event.name === "error") throw new Error(`${event.data["code"]}: ${event.data["message"]}`);
    if (event.name === "done") {
      ended = true;
      console.log(`\n[${event.data["effective_model"]}, ${JSON.stringify(event.data["usage"])}]`);
    }
  }
  if (ended) return;
  // The connection broke: the database knows how the turn ended.
  const status = await call(`/chats/${chatId}/turns/${requestId}`);
  console.log("\nconnection lost, turn status:", await status.json());
};

const chat = (await (await call("/chats", "POST", { title: "Release notes" })).json()) as { id: string };
await ask(chat.id, "What makes a good release note?");
await ask(chat.id, "Say it in one sentence.");

const page = (await (await call(`/chats/${chat.id}/messages?limit=10`)).json()) as {
  items: { role: string; content: string }[];
};
console.log(`${page.items.length} messages stored`);
await call(`/chats/${chat.id}`, "DELETE");
