import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { bookOf } from "../../packages/server/test/retrieval/documents.ts";
import { createChats, send } from "../harness/client.ts";
import { digits, rounded } from "../harness/measure.ts";
import { type Stack, type User, withStack } from "../harness/stack.ts";
import { scaled, summarise } from "../support.ts";

const STREAMS = scaled(10, 2);
const INTERVAL_MS = 20;
const QUIET_MS = scaled(10_000, 500);
const BOOKS = scaled(5, 1);
const ROUNDS = scaled(3);
const PAGES = 300;
/** So many that no answer ends before it is cut off. */
const ENDLESS = 1_000_000;

const provider = fileURLToPath(new URL("../harness/provider.ts", import.meta.url));

interface Chat {
  readonly chatId: string;
  readonly user: User;
}

/** Streams that never end; `gaps` hands over the times between two reads of each since it was last asked. */
const openStreams = (port: number, chats: readonly Chat[]) => {
  let gaps: number[] = [];
  const opened = chats.map((chat) => {
    let last: number | undefined;
    return send({
      port,
      ...chat,
      content: `answer ${ENDLESS} every ${INTERVAL_MS} after 0`,
      keep: false,
      onBytes: () => {
        const now = performance.now();
        if (last !== undefined) gaps.push(now - last);
        last = now;
      },
    });
  });
  return {
    gaps: () => {
      const before = gaps;
      gaps = [];
      return before;
    },
    close: async () => {
      for (const { socket } of opened) socket.destroy();
      await Promise.allSettled(opened.map(({ finished }) => finished));
    },
  };
};

const call = async (
  stack: Stack,
  { chatId, user }: Chat,
  path: string,
  body?: FormData,
): Promise<unknown> => {
  const response = await fetch(`http://127.0.0.1:${stack.serverPort}/v1/chats/${chatId}/attachments${path}`, {
    headers: { authorization: `Bearer ${user.token}` },
    ...(body === undefined ? {} : { method: "POST", body }),
  });
  const answer: unknown = await response.json();
  if (!response.ok) throw new Error(`refused: ${JSON.stringify(answer)}`);
  return answer;
};

const text = (object: unknown, key: string): string =>
  typeof object === "object" && object !== null ? String(Reflect.get(object, key)) : "";

/** Uploads a book and waits until it is indexed; ms. */
const index = async (stack: Stack, chat: Chat, book: Buffer<ArrayBuffer>): Promise<number> => {
  const form = new FormData();
  form.append("file", new Blob([book], { type: "application/pdf" }), "book.pdf");
  const begin = performance.now();
  const id = text(await call(stack, chat, "", form), "id");
  for (;;) {
    const status = text(await call(stack, chat, `/${id}`), "status");
    if (status === "ready") return performance.now() - begin;
    if (status === "failed") throw new Error("indexing failed");
    await sleep(50);
  }
};

const measure = async (stack: Stack): Promise<object> => {
  const book = Buffer.from(bookOf(PAGES));
  const [reader, ...chats] = await createChats(stack, STREAMS + 1);
  if (reader === undefined) throw new Error("no chats");
  await index(stack, reader, book);
  const streams = openStreams(stack.serverPort, chats);
  try {
    await sleep(1_000);
    const machine = stack.machine();
    const quiet: number[] = [];
    const busy: number[] = [];
    const times: number[] = [];
    streams.gaps();
    // One after the other in turns: the machine is as slow for the one as for the other.
    for (let round = 0; round < ROUNDS; round += 1) {
      await sleep(QUIET_MS);
      quiet.push(...streams.gaps());
      for (let at = 0; at < BOOKS; at += 1) times.push(await index(stack, reader, book));
      busy.push(...streams.gaps());
    }
    const [before, meanwhile] = [summarise(quiet), summarise(busy)];
    return {
      streams: STREAMS,
      delta_every_ms: INTERVAL_MS,
      pages: PAGES,
      file_kib: Math.round(book.length / 1024),
      upload_and_index_ms: rounded(summarise(times)),
      gap_ms_without: rounded(before),
      gap_ms_during_extraction: rounded(meanwhile),
      delta_gap_added_p99_ms: digits(meanwhile.p99 - before.p99),
      machine: machine(),
    };
  } finally {
    await streams.close();
  }
};

/** What the extraction of a 300-page PDF adds to the gaps between the deltas of streams that run meanwhile. */
export const measureDeltas = (): Promise<object> =>
  withStack(
    {
      users: STREAMS + 1,
      provider: { script: provider, args: [] },
      config: { providers: { sim: { storage_kind: "local" } } },
    },
    measure,
  );
