import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";

// More than any body this service takes; a client that sends on after its refusal is not waited for.
const maxDrainedBytes = 64 * 1_048_576;
const maxDrainMs = 5_000;

/**
 * Whether the connection closes behind this answer while the client may still be sending. Closing it then
 * resets it, and the reset takes the answer from a client that has not read it yet.
 */
export const closesUnread = (reply: FastifyReply): boolean => {
  const { raw: response, request } = reply;
  const closes =
    !response.shouldKeepAlive ||
    [reply.getHeader("connection"), response.getHeader("connection")].includes("close");
  return closes && request.raw.complete === false;
};

/** The answer, all of it at once; its stream ends, and with it the connection, when the body has been drained. */
export const lingering = (answer: Buffer, request: IncomingMessage): Readable =>
  Readable.from(
    (async function* () {
      yield answer;
      await drain(request);
    })(),
  );

/** Throws away what the client still sends, within bounds. */
const drain = async (request: IncomingMessage): Promise<void> => {
  if (request.readableEnded || request.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = maxDrainedBytes;
  const onData = (chunk: Buffer): void => {
    left -= chunk.length;
    if (left < 0) resolve();
  };
  const timer = setTimeout(resolve, maxDrainMs);
  request.on("data", onData).once("end", resolve).once("close", resolve).once("error", resolve);
  await promise;
  clearTimeout(timer);
  request.off("data", onData);
};
