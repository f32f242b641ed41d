import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { eventually } from "../support/app.ts";

export interface Received {
  readonly key: string;
  readonly messageId: string;
  readonly event: Record<string, unknown>;
}

/** Takes events over HTTP and leaves every request without an answer, until it is told to answer. */
export interface Receiver {
  readonly url: string;
  /** What has come so far, once it is that many. */
  received(count: number): Promise<readonly Received[]>;
  /** Answers what comes from now on. */
  answer(): void;
  close(): Promise<void>;
}

export const startReceiver = async (): Promise<Receiver> => {
  const taken: Received[] = [];
  let answers = false;
  const server = createServer((request, response: ServerResponse) => {
    const header = (name: string): string => String(request.headers[name]);
    void text(request).then((body) => {
      taken.push({
        key: header("idempotency-key"),
        messageId: header("x-message-id"),
        event: JSON.parse(body) as Record<string, unknown>,
      });
      if (answers) response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events`,
    received: async (count) => {
      await eventually(() => taken.length >= count);
      return taken;
    },
    answer: () => {
      answers = true;
    },
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
};
