import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { ApiError, ConnectionError, createClient, hasCode, isClientError } from "../src/index.ts";
import { type ClientApp, startClientApp } from "./support.ts";

let app: ClientApp;
beforeAll(async () => {
  app = await startClientApp();
});
afterAll(() => app.close());

/** What was asked of the network so far, and what it does before the server is reached. */
let asked: Request[] = [];
let before: (request: Request) => Response | Promise<Response> | undefined = () => undefined;
beforeEach(() => {
  asked = [];
  before = () => undefined;
});
const network: typeof fetch = async (input, init) => {
  const request = new Request(input, init);
  asked.push(request);
  return (await before(request)) ?? fetch(request);
};
const client = (token: Parameters<typeof createClient>[0]["token"] = callers.ann.token) =>
  createClient({ baseUrl: `${app.origin}/`, token, fetch: network, recoverForMs: 300, timeoutMs: 1_000 });

const gateway = (status: number, headers: Record<string, string> = {}): Response =>
  new Response("<html>Bad Gateway</html>", { status, headers: { "content-type": "text/html", ...headers } });

const caught = async (promise: Promise<unknown>): Promise<unknown> => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
};

describe("tokens", () => {
  test("a function is asked before every request, and once more with the token that was refused", async () => {
    const refused: (string | undefined)[] = [];
    const fresh = client((old) => {
      refused.push(old);
      return old === undefined ? "stale" : callers.ann.token;
    });
    await fresh.quota();
    expect(refused).toEqual([undefined, "stale"]);
    const chat = await fresh.chats.create();
    expect(await fresh.send(chat.id, { content: "hi" }).result()).toMatchObject({ state: "completed" });
    expect(refused).toHaveLength(6);
  });

  test("a second refusal is final, and so is the first of a fixed token", async () => {
    for (const [token, requests] of [[async () => "wrong", 2] as const, ["wrong", 1] as const]) {
      asked = [];
      const error = await caught(client(token).quota());
      expect(hasCode(error, "unauthorized")).toBe(true);
      expect(asked).toHaveLength(requests);
    }
  });

  test("what a token function throws comes out as it is, also of a send", async () => {
    const failing = client(() => Promise.reject(new RangeError("signed out")));
    await expect(failing.quota()).rejects.toThrow(RangeError);
    await expect(failing.send(crypto.randomUUID(), { content: "hi" }).result()).rejects.toThrow(RangeError);
    expect(asked).toEqual([]);
  });
});

describe("errors", () => {
  test("a refusal carries code, status, problem and the time to wait", async () => {
    const problem = {
      type: "about:blank",
      title: "Too Many Requests",
      status: 429,
      detail: "Slow down.",
      instance: "/v1/chats",
      code: "too_many_requests",
    };
    before = () =>
      Response.json(problem, {
        status: 429,
        headers: { "content-type": "application/problem+json", "retry-after": "7" },
      });
    const error = await caught(client().chats.create());
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "too_many_requests", status: 429, retryAfterSecs: 7, problem });
    expect(asked).toHaveLength(1);
  });

  test("what is no problem of the server's is an unexpected answer", async () => {
    before = () => gateway(418, { "retry-after": "3" });
    const error = await caught(client().quota());
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ code: "unexpected_answer", status: 418, retryAfterSecs: 3 });
    before = () => new Response("{", { headers: { "content-type": "application/json" } });
    expect(isClientError(await caught(client().chats.create()))).toBe(true);
  });

  test("ids cannot leave their place in the path", async () => {
    const error = await caught(client().chats.get("../quota/status?"));
    expect(hasCode(error, "invalid_request")).toBe(true);
  });
});

describe("repetition", () => {
  test.each([
    ["a lost connection", () => Promise.reject(new TypeError("fetch failed"))],
    ["502 of a gateway", () => gateway(502)],
    ["503 with a short wait", () => gateway(503, { "retry-after": "0" })],
    ["an answer cut short", () => new Response('{"items":[', { status: 200 })],
  ])("a read is repeated after %s", async (_name, fault) => {
    before = () => (asked.length < 3 ? fault() : undefined);
    expect(await client().models.list()).toHaveLength(2);
    expect(asked).toHaveLength(3);
  });

  test("a read gives up after four attempts, and at once when the wait is long or the answer is no", async () => {
    before = () => gateway(502);
    await expect(client().quota()).rejects.toMatchObject({ status: 502 });
    expect(asked).toHaveLength(4);
    asked = [];
    before = () => gateway(503, { "retry-after": "60" });
    await expect(client().quota()).rejects.toMatchObject({ retryAfterSecs: 60 });
    expect(asked).toHaveLength(1);
    asked = [];
    before = () => undefined;
    await expect(client().chats.get(crypto.randomUUID())).rejects.toMatchObject({ code: "chat_not_found" });
    expect(asked).toHaveLength(1);
  });

  test("what changes something is never repeated", async () => {
    const chat = await app.createChat();
    const message = crypto.randomUUID();
    before = () => gateway(502);
    for (const change of [
      () => client().chats.create(),
      () => client().chats.rename(chat, "x"),
      () => client().chats.remove(chat),
      () => client().reactions.set(chat, message, "like"),
      () => client().reactions.remove(chat, message),
      () => client().turns.cancel(chat, message),
      () => client().turns.remove(chat, message),
      () => client().attachments.remove(chat, message),
      () => client().attachments.upload(chat, new Blob(["x"])),
    ]) {
      asked = [];
      await expect(change()).rejects.toMatchObject({ status: 502 });
      expect(asked).toHaveLength(1);
    }
  });
});

describe("limits", () => {
  test("a call without an answer ends in time, a signal ends it at once with its reason", async () => {
    before = (request) =>
      new Promise((_, reject) =>
        request.signal.addEventListener("abort", () => reject(request.signal.reason)),
      );
    const late = caught(client().chats.create());
    expect(await late).toMatchObject({ code: "connection_failed" });
    const abort = new AbortController();
    const stopped = caught(client().quota({ signal: abort.signal }));
    abort.abort("enough");
    expect(await stopped).toBe("enough");
    expect(await caught(client().quota({ signal: abort.signal }))).toBe("enough");
  });

  test("a signal ends the pause before a repetition", async () => {
    before = () => gateway(503, { "retry-after": "9" });
    const abort = new AbortController();
    const stopped = caught(client().quota({ signal: abort.signal }));
    await expect.poll(() => asked.length).toBe(1);
    abort.abort("enough");
    expect(await stopped).toBe("enough");
  });
});
