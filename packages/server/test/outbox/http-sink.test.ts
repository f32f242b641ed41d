import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createHttpSink } from "../../src/outbox/http-sink.ts";
import { done, type Message } from "../../src/outbox/message.ts";
import { signatureHeader, signatureOf } from "../../src/outbox/signature.ts";
import { PublishError, type Sink } from "../../src/outbox/sink.ts";
import { usageSinkHandler } from "../../src/usage/publish.ts";
import { delivery, never, tenantId } from "./deliveries.ts";
import { handlerContext, messageOf, numbered, signal } from "./support.ts";

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
