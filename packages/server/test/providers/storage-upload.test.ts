import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setImmediate as turnOfLoop } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { FileStorage, StorageUpload } from "../../src/providers/storage-contract.ts";
import { context, failureOf } from "./storage-support.ts";
import { entry, recordTelemetry, registryOf } from "./support.ts";

const opened: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

interface Receiver {
  readonly files: FileStorage;
  readonly recorded: readonly string[];
  /** Resolves when the connection of the first request is closed. */
  readonly closed: Promise<void>;
  /** The client's end of the connection. */
  socket(): Socket;
}

/** A provider that answers as told and reads nothing by itself. */
const receiver = async (
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  egress: Record<string, number> = {},
): Promise<Receiver> => {
  const closed = Promise.withResolvers<void>();
  const server = createServer((request, response) => {
    request.on("error", () => {});
    request.socket.once("close", () => closed.resolve());
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  opened.push(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const telemetry = recordTelemetry();
  const providers = registryOf({ p: entry(address.port, { storage_kind: "openai" }) }, { egress, telemetry });
  opened.push(() => providers.close());
  const storage = providers.storage.byProviderId("p");
  if (storage === null) throw new Error("no storage");
  const sockets: Socket[] = [];
  const connected = (message: unknown): void => {
    sockets.push((message as { socket: Socket }).socket);
  };
  subscribe("undici:client:connected", connected);
  opened.push(() => unsubscribe("undici:client:connected", connected));
  return {
    files: storage.files,
    recorded: telemetry.recorded,
    closed: closed.promise,
    socket: () => {
      const [socket] = sockets;
      if (socket === undefined) throw new Error("not connected");
      return socket;
    },
  };
};

const answerStored = (request: IncomingMessage, response: ServerResponse): void => {
  let bytes = 0;
  request.on("data", (piece: Buffer) => {
    bytes += piece.length;
  });
  request.on("end", () => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ id: "file-1", bytes }));
  });
};

const MIB = 1_048_576;

/** A file of so many pieces of 64 KiB that tells how many were taken, and whether it was let go. */
const longFile = (pieces: number) => {
  const source = { taken: 0, released: false };
  const stream = async function* () {
    try {
      for (; source.taken < pieces; source.taken += 1) yield Buffer.alloc(65_536);
    } finally {
      source.released = true;
    }
  };
  const file: StorageUpload = { name: "a.bin", contentType: "application/pdf", stream: stream() };
  return { source, file };
};

/** Waits until a hundred turns of the event loop brought nothing new. */
const untilStill = async (read: () => number): Promise<number> => {
  for (let still = 0, last = -1; ; ) {
    await turnOfLoop();
    const now = read();
    still = now === last && now > 0 ? still + 1 : 0;
    if (still === 100) return now;
    last = now;
  }
};

describe("a streamed upload", () => {
  test("a provider that stops reading stops the source: at most 1 MiB is held", async () => {
    const arrived = Promise.withResolvers<() => void>();
    const { files, socket } = await receiver((request, response) => {
      arrived.resolve(() => answerStored(request, response));
    });
    const { source, file } = longFile(1_024);
    const uploading = files.upload(context, file);
    const goOn = await arrived.promise;
    const taken = await untilStill(() => source.taken);
    const client = socket();
    expect(client.writableNeedDrain).toBe(true);
    const sent = client.bytesWritten - client.writableLength;
    expect(taken).toBeLessThan(1_024);
    expect(taken * 65_536 - sent).toBeLessThan(MIB);
    goOn();
    expect(await uploading).toEqual({ providerFileId: "file-1", bytes: 64 * MIB });
  });

  test("the signal closes the socket in the middle of the file, and lets the source go", async () => {
    const { files, closed } = await receiver((request) => void request.resume());
    const controller = new AbortController();
    const source = { released: false };
    const endless = async function* () {
      try {
        yield Buffer.from("some bytes");
        setImmediate(() => controller.abort());
        for (;;) {
          await turnOfLoop();
          yield Buffer.alloc(1_000);
        }
      } finally {
        source.released = true;
      }
    };
    const file = { name: "a", contentType: "text/plain", stream: endless() };
    const error = await failureOf(files.upload({ ...context, signal: controller.signal }, file));
    expect(error).toMatchObject({ code: "provider_unavailable", retryable: true });
    await closed;
    await expect.poll(() => source.released).toBe(true);
  });

  test("the signal ends the wait for a source that brings nothing", async () => {
    const { files, closed } = await receiver((request) => void request.resume());
    const controller = new AbortController();
    const waiting = Promise.withResolvers<void>();
    const silent = async function* () {
      yield Buffer.from("some bytes");
      waiting.resolve();
      await new Promise(() => {});
    };
    const file = { name: "a", contentType: "text/plain", stream: silent() };
    const uploading = failureOf(files.upload({ ...context, signal: controller.signal }, file));
    await waiting.promise;
    controller.abort();
    await uploading;
    await closed;
  });

  test("an aborted signal makes no request", async () => {
    let requests = 0;
    const { files } = await receiver(() => {
      requests += 1;
    });
    await failureOf(files.upload({ ...context, signal: AbortSignal.abort() }, longFile(1).file));
    expect(requests).toBe(0);
  });

  test("what the source throws comes out unchanged, closes the socket and is no failure of the upstream", async () => {
    let wholeFiles = 0;
    const { files, closed, recorded } = await receiver((request) => {
      request.resume();
      request.on("end", () => {
        wholeFiles += 1;
      });
    });
    const tooLarge = new Error("the file is too large");
    const failing = async function* () {
      yield Buffer.alloc(100_000);
      throw tooLarge;
    };
    const file = { name: "a", contentType: "text/plain", stream: failing() };
    await expect(files.upload(context, file)).rejects.toBe(tooLarge);
    await closed;
    expect(wholeFiles).toBe(0);
    // More than the five failures that would open the breaker.
    for (let n = 0; n < 6; n += 1) {
      await expect(files.upload(context, { ...file, stream: failing() })).rejects.toBe(tooLarge);
    }
    expect(recorded.filter((line) => line.startsWith("provider_errors"))).toEqual([]);
  });

  test("a refusal before the end of the file ends the upload with its status", async () => {
    const { files } = await receiver((_request, response) => {
      response.statusCode = 413;
      response.end("too large");
    });
    const { source, file } = longFile(100_000);
    expect(await failureOf(files.upload(context, file))).toMatchObject({
      code: "provider_rejected",
      httpStatus: 413,
      retryable: false,
    });
    await expect.poll(() => source.released).toBe(true);
    expect(source.taken).toBeLessThan(100_000);
  });

  test("egress.upload_timeout_secs bounds it", async () => {
    const { files, closed } = await receiver((request) => void request.resume(), {
      upload_timeout_secs: 0.2,
    });
    const { file } = longFile(4);
    expect(await failureOf(files.upload(context, file))).toMatchObject({
      code: "provider_unavailable",
      detail: expect.stringContaining("200 ms"),
    });
    await closed;
  });

  test("a source that is waited for when the time is up is no failure of the upstream", async () => {
    const { files, recorded } = await receiver((request) => void request.resume(), {
      upload_timeout_secs: 0.2,
    });
    const stalled = async function* () {
      yield Buffer.from("some bytes");
      await new Promise(() => {});
    };
    // More than the five failures that would open the breaker.
    for (let n = 0; n < 6; n += 1) {
      const file = { name: "a", contentType: "text/plain", stream: stalled() };
      expect(await failureOf(files.upload(context, file))).toMatchObject({ reason: "stalled" });
    }
    expect(recorded.filter((line) => line.startsWith("provider_errors"))).toEqual([]);
  });

  test("egress.max_body_mb bounds it", async () => {
    const { files, closed } = await receiver(answerStored, { max_body_mb: 1 });
    expect(await failureOf(files.upload(context, longFile(17).file))).toMatchObject({
      code: "configuration_error",
    });
    await closed;
  });
});
