import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { nowNs } from "./measure.ts";

// A provider that tells the time: the text of its first delta is when the request was complete and when
// that delta was handed to the socket, in ns of the machine's monotonic clock. The question holds how
// many deltas the answer has, at which interval in ms and after which time of thinking.

interface Wanted {
  readonly deltas: number;
  readonly intervalMs: number;
  readonly thinkMs: number;
}

// Of earlier questions there is one each in the history: the last one counts.
const wantedOf = (body: string): Wanted => {
  const [, deltas, interval, think] =
    [...body.matchAll(/answer (\d+) every (\d+) after (\d+)/g)].at(-1) ?? [];
  return { deltas: Number(deltas), intervalMs: Number(interval), thinkMs: Number(think) };
};

const frame = (type: string, body: object): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...body })}\n\n`;

const delta = (text: string): string =>
  frame("response.output_text.delta", {
    item_id: "msg_1",
    output_index: 0,
    content_index: 0,
    delta: text,
    logprobs: [],
  });

const usage = {
  input_tokens: 50,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 12,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 62,
};

const completed = frame("response.completed", {
  response: { id: "resp_1", object: "response", status: "completed", output: [], usage },
});

const head =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";

const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;

const created = chunk(
  frame("response.created", { response: { id: "resp_1", status: "in_progress", output: [] } }),
);
const word = Buffer.from(chunk(delta("word ")));
const end = Buffer.from(`${chunk(completed)}0\r\n\r\n`);

const play = async (socket: Socket, wanted: Wanted, receivedAt: bigint, last: boolean): Promise<void> => {
  socket.write(head + created);
  await sleep(wanted.thinkMs);
  if (socket.destroyed) return;
  socket.write(chunk(delta(`${receivedAt},${nowNs()} `)));
  let sent = 1;
  const timer = setInterval(() => {
    if (sent < wanted.deltas && !socket.destroyed) {
      socket.write(word);
      sent += 1;
      return;
    }
    clearInterval(timer);
    if (last) socket.end(end);
    else socket.write(end);
  }, wanted.intervalMs);
};

// HTTP by hand, as much as our own calls need: ten thousand deltas per second are to leave the processor
// to the server that is measured.
const server = createServer({ noDelay: true }, (socket) => {
  let received = "";
  socket.on("data", (bytes: Buffer) => {
    received += bytes.toString("latin1");
    const headEnd = received.indexOf("\r\n\r\n");
    if (headEnd === -1) return;
    const length = Number(/content-length: (\d+)/i.exec(received)?.[1] ?? 0);
    if (received.length < headEnd + 4 + length) return;
    const body = received.slice(headEnd + 4);
    const last = /^connection: close\r$/im.test(received.slice(0, headEnd + 2));
    received = "";
    void play(socket, wantedOf(body), nowNs(), last);
  });
  socket.on("error", () => {});
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
  const address = server.address();
  if (typeof address === "object" && address !== null) console.log(`http://127.0.0.1:${address.port}`);
});
