import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createFileSink } from "../../src/outbox/file-sink.ts";
import { createHttpSink } from "../../src/outbox/http-sink.ts";
import { createLogSink } from "../../src/outbox/log-sink.ts";
import { done, type Message } from "../../src/outbox/message.ts";
import { signatureHeader, signatureOf } from "../../src/outbox/signature.ts";
import { type Delivery, PublishError, type Sink, sinkHandler } from "../../src/outbox/sink.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { usageSinkHandler } from "../../src/usage/publish.ts";
import { eventually, handlerContext, messageOf, numbered, signal } from "./support.ts";

const tenantId = "11111111-1111-4111-8111-111111111111";

const delivery = (number: number, change: Partial<Delivery> = {}): Delivery => ({
  queue: "usage",
  idempotencyKey: `key-${number}`,
  messageId: `018f0000-0000-4000-8000-${String(number).padStart(12, "0")}`,
  tenantId,
  payload: JSON.stringify({ number, text: 'ünï\n"code"' }),
  trace: null,
  ...change,
});

const never = new AbortController().signal;

describe("log sink (policy.md §13)", () => {
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger(
    { level: "debug", format: "json" },
    { version: "1", instance_id: "i", role: "all" },
    { write: (line) => lines.push(JSON.parse(line)) },
  );
  beforeEach(() => lines.splice(0));

  it("writes one line per event, with its keys and its fields", async () => {
    await createLogSink(logger).publish([delivery(1), delivery(2, { queue: "audit" })], never);
    expect(lines).toMatchObject([
      { level: "info", msg: "usage event", idempotency_key: "key-1", event: { number: 1 } },
      { level: "info", msg: "audit event", idempotency_key: "key-2", event: { number: 2 } },
    ]);
  });

  it("writes at the level it is told", async () => {
    await createLogSink(logger, "debug").publish([delivery(1)], never);
    expect(lines).toMatchObject([{ level: "debug" }]);
  });

  it("leaves out what users and models wrote (ops.md §6)", async () => {
    const texts = { prompt: "planted prompt", response: "planted response" };
    const attachments = [{ filename: "planted.pdf", doc_summary: "planted summary" }];
    const payload = JSON.stringify({ number: 1, ...texts, attachments });
    await createLogSink(logger).publish([delivery(1, { payload })], never);
    expect(lines).toMatchObject([{ event: { number: 1 } }]);
    expect(JSON.stringify(lines)).not.toContain("planted");
  });
});

describe("file sink", () => {
  let directory: string;
  let path: string;
  const sinks: Sink[] = [];
  const openSink = (...args: Parameters<typeof createFileSink>): Sink => {
    const sink = createFileSink(...args);
    sinks.push(sink);
    return sink;
  };

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "outbox-sink-"));
    path = join(directory, "events.jsonl");
  });
  afterEach(async () => {
    await Promise.all(sinks.splice(0).map((sink) => sink.close()));
    await rm(directory, { recursive: true });
  });

  const linesOf = async (): Promise<string[]> => (await readFile(path, "utf8")).split("\n").slice(0, -1);
  /** The numbers of the readable lines, in order. */
  const numbersOf = async (): Promise<number[]> =>
    (await linesOf()).flatMap((line) => {
      try {
        return JSON.parse(line).event.number;
      } catch {
        return [];
      }
    });

  it("appends one JSON object per line, the event unchanged", async () => {
    await openSink({ path }).publish([delivery(1), delivery(2)], never);
    const { payload, messageId } = delivery(1);
    expect((await linesOf())[0]).toBe(
      `{"queue":"usage","idempotency_key":"key-1","message_id":"${messageId}","event":${payload}}`,
    );
    expect((await linesOf()).map((line) => JSON.parse(line).event)).toEqual([
      JSON.parse(delivery(1).payload),
      JSON.parse(delivery(2).payload),
    ]);
  });

  it("is not done before the data is on disk", async () => {
    const syncing = signal();
    const onDisk = signal();
    const sink = openSink({
      path,
      open: async (name, flags) => {
        const handle = await open(name, flags);
        const datasync = handle.datasync.bind(handle);
        handle.datasync = async () => {
          syncing.give();
          await onDisk.given;
          await datasync();
        };
        return handle;
      },
    });
    let isDone = false;
    const published = sink.publish([delivery(1)], never).then(() => {
      isDone = true;
    });
    await syncing.given;
    // Written, as anybody can see, and yet not done.
    expect(await numbersOf()).toEqual([1]);
    expect(isDone).toBe(false);
    onDisk.give();
    await published;
  });

  it("shares one write and one flush between all that arrive meanwhile, in order", async () => {
    let syncs = 0;
    const gate = signal();
    const sink = openSink({
      path,
      open: async (name, flags) => {
        const handle = await open(name, flags);
        const datasync = handle.datasync.bind(handle);
        handle.datasync = async () => {
          syncs += 1;
          await gate.given;
          await datasync();
        };
        return handle;
      },
    });
    const first = sink.publish([delivery(0)], never);
    await eventually(async () => syncs === 1);
    const rest = Array.from({ length: 50 }, (_, at) => sink.publish([delivery(at + 1)], never));
    gate.give();
    await Promise.all([first, ...rest]);
    expect(syncs).toBe(2);
    expect(await numbersOf()).toEqual(Array.from({ length: 51 }, (_, at) => at));
  });

  it("goes on after a restart, and never touches what is there", async () => {
    const before = openSink({ path });
    await before.publish([delivery(1)], never);
    await before.close();
    const old = await readFile(path);
    await openSink({ path }).publish([delivery(2)], never);
    const now = await readFile(path);
    expect(now.subarray(0, old.length)).toEqual(old);
    expect(await numbersOf()).toEqual([1, 2]);
  });

  it("ends a line that a crash had cut off, wherever it was cut", async () => {
    await openSink({ path }).publish([delivery(1), delivery(2)], never);
    const whole = await readFile(path);
    const firstLine = whole.indexOf("\n") + 1;
    for (const cut of [firstLine + 1, firstLine + 40, whole.length - 2, whole.length - 1]) {
      await writeFile(path, whole);
      await truncate(path, cut);
      const sink = createFileSink({ path });
      await sink.publish([delivery(2), delivery(3)], never);
      await sink.close();
      // Cut right before its line feed the line was whole; the repeat carries the same key.
      expect(await numbersOf()).toEqual(cut === whole.length - 1 ? [1, 2, 2, 3] : [1, 2, 3]);
    }
  });

  it("is transient about a directory that is not there, and works once it is", async () => {
    const late = join(directory, "later");
    path = join(late, "events.jsonl");
    const sink = openSink({ path });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
    await mkdir(late);
    await sink.publish([delivery(1)], never);
    expect(await numbersOf()).toEqual([1]);
  });

  it("keeps lines whole when two processes append to one file", async () => {
    const [one, two] = [openSink({ path }), openSink({ path })];
    const payload = JSON.stringify({ number: 1, text: "x".repeat(60_000) });
    const group = Array.from({ length: 40 }, (_, at) => delivery(at, { payload }));
    await Promise.all([1, 2, 3].flatMap(() => [one.publish(group, never), two.publish(group, never)]));
    expect(await numbersOf()).toHaveLength(240);
    expect(await linesOf()).toHaveLength(240);
  });

  it("sets a full file aside and goes on in a new one, with nothing lost between them", async () => {
    const sink = openSink({ path, maxBytes: 500 });
    for (let number = 0; number < 12; number += 1) await sink.publish([delivery(number)], never);
    const names = (await readdir(directory)).sort();
    expect(names.length).toBeGreaterThan(2);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(directory, name))).size));
    for (const size of sizes) expect(size).toBeLessThanOrEqual(500);
    const rotated = names.filter((name) => name !== "events.jsonl");
    for (const name of rotated) expect(name).toMatch(/^events\.jsonl\.[\dTZ-]+-\d{6}-[0-9a-f]{8}$/);
    const texts = await Promise.all(
      [...rotated, "events.jsonl"].map((name) => readFile(join(directory, name), "utf8")),
    );
    const numbers = texts
      .join("")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).event.number);
    expect(numbers).toEqual(Array.from({ length: 12 }, (_, at) => at));
  });

  it("takes an event larger than the limit all the same", async () => {
    const sink = openSink({ path, maxBytes: 10 });
    await sink.publish([delivery(1)], never);
    await sink.publish([delivery(2)], never);
    expect(await readdir(directory)).toHaveLength(2);
    expect(await numbersOf()).toEqual([2]);
  });

  it("follows a file that others have moved away or deleted", async () => {
    const sink = openSink({ path });
    await sink.publish([delivery(1)], never);
    await rename(path, `${path}.1`);
    await sink.publish([delivery(2)], never);
    expect(await numbersOf()).toEqual([2]);
    await rm(path);
    await sink.publish([delivery(3)], never);
    expect(await numbersOf()).toEqual([3]);
  });

  it("makes no file before there is something to write", async () => {
    const sink = openSink({ path });
    await sink.close();
    await expect(stat(path)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("HTTP sink", () => {
  interface Received {
    readonly method: string | undefined;
    readonly url: string | undefined;
    readonly headers: IncomingHttpHeaders;
    readonly body: string;
  }

  let server: Server;
  let url: string;
  const received: Received[] = [];
  let answer: (response: ServerResponse, request: Received) => void;
  const sinks: Sink[] = [];
  const openSink = (change: Partial<Parameters<typeof createHttpSink>[0]> = {}): Sink => {
    const sink = createHttpSink({ url, token: "planted-token", ...change });
    sinks.push(sink);
    return sink;
  };

  beforeAll(async () => {
    server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const { method, url: target, headers } = request;
      const one = { method, url: target, headers, body: Buffer.concat(chunks).toString() };
      received.push(one);
      answer(response, one);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/usage?v=1`;
  });
  beforeEach(() => {
    received.splice(0);
    answer = (response) => response.writeHead(204).end();
  });
  afterEach(async () => {
    server.closeAllConnections();
    await Promise.all(sinks.splice(0).map((sink) => sink.close()));
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  it("posts the event unchanged, with the keys a receiver needs", async () => {
    await openSink().publish([delivery(1, { trace: "0af7651916cd43dd8448eb211c80319c" })], never);
    const { payload, messageId } = delivery(1);
    expect(received).toHaveLength(1);
    expect(received[0]).toMatchObject({
      method: "POST",
      url: "/usage?v=1",
      body: payload,
      headers: {
        "content-type": "application/json",
        "idempotency-key": "key-1",
        "x-message-id": messageId,
        "x-tenant-id": tenantId,
        "x-trace-id": "0af7651916cd43dd8448eb211c80319c",
        authorization: "Bearer planted-token",
      },
    });
  });

  it("signs time and body when it has a secret, and only then", async () => {
    await openSink({ secret: "planted-secret-of-16" }).publish([delivery(1)], never);
    await openSink().publish([delivery(1)], never);
    const [signed, unsigned] = received;
    const [, time = ""] = /^t=(\d+),v1=[0-9a-f]{64}$/.exec(`${signed?.headers[signatureHeader]}`) ?? [];
    expect(signed?.headers[signatureHeader]).toBe(
      signatureOf("planted-secret-of-16", delivery(1).payload, Number(time)),
    );
    expect(Math.abs(Number(time) - Date.now() / 1_000)).toBeLessThan(60);
    expect(unsigned?.headers).not.toHaveProperty(signatureHeader);
  });

  it("sends neither a token nor a trace it has not got", async () => {
    await openSink({ token: undefined }).publish([delivery(1)], never);
    expect(received[0]?.headers).not.toHaveProperty("authorization");
    expect(received[0]?.headers).not.toHaveProperty("x-trace-id");
  });

  it("falls back to the message id where the key cannot be a header, rather than fail for ever", async () => {
    await openSink().publish([delivery(1, { idempotencyKey: "tenant/\n/request", trace: "a\nb" })], never);
    expect(received[0]?.headers).toMatchObject({ "idempotency-key": delivery(1).messageId });
    expect(received[0]?.headers).not.toHaveProperty("x-trace-id");
  });

  it.each([
    ...[200, 201, 202, 204].map((status) => [status, "delivered"] as const),
    ...[400, 410, 422].map((status) => [status, "permanent"] as const),
    ...[301, 302, 307, 401, 403, 404, 405, 408, 409, 413, 415, 425, 429, 500, 501, 502, 503, 504].map(
      (status) => [status, "transient"] as const,
    ),
  ])("takes %i for %s", async (status, outcome) => {
    answer = (response) => response.writeHead(status, { location: "/elsewhere" }).end("because");
    const kind = await openSink()
      .publish([delivery(1)], never)
      .then(
        () => "delivered",
        (error: unknown) => (error instanceof PublishError ? error.kind : error),
      );
    expect(kind).toBe(outcome);
    // Redirects are not followed.
    expect(received).toHaveLength(1);
  });

  it("takes the status for the answer, whatever becomes of the body", async () => {
    answer = (response) => {
      response.writeHead(200, { "content-length": "1000" });
      response.write("no end");
    };
    await openSink().publish([delivery(1)], never);
  });

  it("is transient about a receiver that is not there", async () => {
    const nobody = openSink({ url: "http://127.0.0.1:9/" });
    await expect(nobody.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
  });

  it("is transient about a receiver that hangs up", async () => {
    answer = (response) => response.destroy();
    await expect(openSink().publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
  });

  it("waits no longer than it is told for a receiver that keeps silent", async () => {
    answer = () => {};
    const sink = openSink({ timeoutMs: 50 });
    await expect(sink.publish([delivery(1)], never)).rejects.toMatchObject({ kind: "transient" });
  });

  it("receives no more of an answer than it needs", async () => {
    const closed = signal();
    answer = (response) => {
      response.on("close", closed.give);
      response.writeHead(200);
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        if (!response.destroyed) response.once("drain", more);
      };
      more();
    };
    await openSink().publish([delivery(1)], never);
    await closed.given;
  });

  it.each([
    [429, "7", 7_000],
    [503, "7", 7_000],
    [503, "86400", 300_000],
    [503, "0", undefined],
    [503, "-1", undefined],
    [503, "Wed, 21 Oct 2026 07:28:00 GMT", undefined],
    [500, "7", undefined],
  ])("that is answered %i with retry-after %j comes again after %s ms", async (status, value, afterMs) => {
    answer = (response) => response.writeHead(status, { "retry-after": value }).end();
    const [verdict] =
      (await usageSinkHandler(openSink())([messageOf(numbered(tenantId, 1))], handlerContext())) ?? [];
    expect(verdict).toEqual({
      kind: "retry",
      error: `the receiver answered ${status}`,
      ...(afterMs === undefined ? {} : { afterMs }),
    });
  });

  it("says nothing of its token, its secret or the event when it fails", async () => {
    const secrets = { token: "planted-token", secret: "planted-secret-of-16" };
    answer = (response) => response.writeHead(500).end("planted answer");
    for (const sink of [openSink(secrets), openSink({ ...secrets, url: "http://127.0.0.1:9/" })]) {
      const error = await sink.publish([delivery(1)], never).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(PublishError);
      expect(inspect(error, { depth: 10 })).not.toMatch(/planted|ünï/);
    }
  });

  it("is cut off by its signal while the receiver keeps silent", async () => {
    const silent = signal();
    answer = () => silent.give();
    const controller = new AbortController();
    const publishing = openSink().publish([delivery(1)], controller.signal);
    await silent.given;
    controller.abort();
    await expect(publishing).rejects.toMatchObject({ kind: "transient" });
  });

  describe("as the handler of a queue", () => {
    const usageMessage = (change: Partial<Message> = {}): Message => messageOf(numbered(tenantId, 1), change);
    const handle = (message: Message, ms?: number) =>
      usageSinkHandler(openSink())([message], handlerContext(ms));

    it("sends the same idempotency key on every delivery: the dedupe key of the event", async () => {
      const statuses = [503, 200];
      answer = (response) => response.writeHead(statuses.shift() ?? 500).end();
      const message = usageMessage();
      expect(await handle(message)).toMatchObject([{ kind: "retry", error: "the receiver answered 503" }]);
      expect(await handle({ ...message, attempts: 2, parked: true })).toEqual([done]);
      const keys = received.map(({ headers }) => headers["idempotency-key"]);
      expect(keys).toEqual([keys[0], keys[0]]);
      expect(keys[0]).toBe(JSON.parse(message.payload).dedupe_key);
      expect(received[0]?.body).toBe(received[1]?.body);
    });

    it("turns running out of time into a retry", async () => {
      answer = () => {};
      const [verdict] = (await handle(usageMessage(), 700)) ?? [];
      expect(verdict).toMatchObject({ kind: "retry" });
      expect(verdict?.kind === "retry" && verdict.error).toMatch(/^timed out after \d+ ms$/);
    });

    it("turns a permanent answer into a dead letter", async () => {
      answer = (response) => response.writeHead(422).end();
      expect(await handle(usageMessage())).toEqual([{ kind: "reject", reason: "the receiver answered 422" }]);
    });

    it("tells neither the token nor the payload in what is logged and stored", async () => {
      const verdicts: unknown[] = [];
      for (const respond of [400, 401, 500, "hang up"] as const) {
        answer = (response) =>
          typeof respond === "number" ? response.writeHead(respond).end("planted-token") : response.destroy();
        verdicts.push(...(await handle(usageMessage())));
      }
      expect(verdicts).toHaveLength(4);
      expect(JSON.stringify(verdicts)).not.toMatch(/planted|gpt-premium|Bearer/);
    });
  });
});

describe("handler of a sink that takes groups", () => {
  const deliveryOf = (message: Message): Delivery =>
    delivery(Number(message.id), { messageId: message.messageId });
  const limits = { concurrency: 4, maxMs: 5_000, reserveMs: 100 };
  const message = (id: number, orderKey: string): Message => messageOf({}, { id: BigInt(id), orderKey });
  const sinkOf = (publish: Sink["publish"]): Sink => ({ grouping: "batch", publish, close: async () => {} });
  const batch = [message(1, "a"), message(2, "b"), message(3, "a"), message(4, "c")];

  it("publishes all in one call", async () => {
    const calls: number[] = [];
    const sink = sinkOf(async (deliveries) => void calls.push(deliveries.length));
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    expect(calls).toEqual([4]);
    expect(verdicts).toEqual([done, done, done, done]);
  });

  it("blames the first of each key when the group fails, as nothing behind it was tried", async () => {
    const sink = sinkOf(() => Promise.reject(new PublishError("transient", "full")));
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    const full = { kind: "retry", error: "full" };
    expect(verdicts).toEqual([full, full, undefined, full]);
  });

  it("finds the one the receiver refuses for good, and delivers the others", async () => {
    const published: string[] = [];
    const sink = sinkOf(async (deliveries) => {
      if (deliveries.some(({ idempotencyKey }) => idempotencyKey === "key-2")) {
        throw new PublishError("permanent", "refused");
      }
      published.push(...deliveries.map(({ idempotencyKey }) => idempotencyKey));
    });
    const verdicts = await sinkHandler(sink, deliveryOf, limits)(batch, handlerContext());
    expect(verdicts).toEqual([done, { kind: "reject", reason: "refused" }, done, done]);
    expect(published.sort()).toEqual(["key-1", "key-3", "key-4"]);
  });

  it("publishes nothing of a key behind a message that waits, and rejects what cannot be read", async () => {
    const published: string[] = [];
    const sink = sinkOf(async (deliveries) => {
      published.push(...deliveries.map(({ idempotencyKey }) => idempotencyKey));
    });
    const retry = { kind: "retry", error: "unknown", counted: false } as const;
    const reject = { kind: "reject", reason: "unreadable" } as const;
    const prepare = (one: Message) => (one.id === 1n ? retry : one.id === 2n ? reject : deliveryOf(one));
    const verdicts = await sinkHandler(sink, prepare, limits)(batch, handlerContext());
    expect(verdicts).toEqual([retry, reject, undefined, done]);
    expect(published).toEqual(["key-4"]);
  });

  it("counts nothing as a failure when it was cut off", async () => {
    const controller = new AbortController();
    const sink = sinkOf(async () => {
      controller.abort();
      throw new PublishError("transient", "cut off");
    });
    const handling = sinkHandler(
      sink,
      deliveryOf,
      limits,
    )(batch, {
      ...handlerContext(),
      signal: controller.signal,
    });
    await expect(handling).rejects.toThrow("cut off");
  });
});
