import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { callers } from "../../server/test/support/config.ts";
import { createClient, type UploadProgress } from "../src/index.ts";

const chat = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";

/** Takes the form apart as it came over the wire, and answers with what was in it. */
let server: Server;
let origin: string;
let paused = false;
const received = async (request: IncomingMessage): Promise<object> => {
  const body = await buffer(request);
  const headers = { "content-type": request.headers["content-type"] ?? "" };
  const file = (await new Response(body, { headers }).formData()).get("file");
  if (!(file instanceof File)) throw new Error("no file");
  return { filename: file.name, content_type: file.type, size_bytes: file.size, text: await file.text() };
};
beforeAll(async () => {
  server = createServer(async (request, response) => {
    if (request.headers.authorization !== `Bearer ${callers.ann.token}`) {
      request.resume();
      response.writeHead(401, { "content-type": "application/problem+json" });
      response.end(JSON.stringify({ code: "unauthorized", status: 401, detail: "" }));
      return;
    }
    if (paused) return;
    const found = await received(request);
    response.writeHead(201, { "content-type": "application/json" });
    response.end(JSON.stringify({ path: request.url, ...found }));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  paused = false;
  vi.unstubAllGlobals();
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const uploader = (token: string | (() => string) = callers.ann.token) =>
  createClient({ baseUrl: origin, token }).attachments;

describe("upload by fetch", () => {
  test("sends the file as the part `file`, with name and type", async () => {
    const file = new File(["Zwölf"], 'a "plan"\n.txt', { type: "text/plain" });
    expect(await uploader().upload(chat, file)).toEqual({
      path: `/v1/chats/${chat}/attachments`,
      filename: 'a "plan"\n.txt',
      content_type: "text/plain",
      size_bytes: 6,
      text: "Zwölf",
    });
  });

  test("a blob gets a name, a missing type is left to the extension", async () => {
    const blob = new Blob(["x"]);
    const type = "application/octet-stream";
    expect(await uploader().upload(chat, blob)).toMatchObject({ filename: "file", content_type: type });
    expect(await uploader().upload(chat, blob, { filename: "a.md" })).toMatchObject({ filename: "a.md" });
  });

  test("tells its progress, piece by piece up to the whole", async () => {
    const steps: UploadProgress[] = [];
    const content = "x".repeat(300_000);
    const sent = await uploader().upload(chat, new Blob([content]), {
      onProgress: (step) => steps.push(step),
    });
    expect(sent).toMatchObject({ size_bytes: 300_000, text: content });
    expect(steps.length).toBeGreaterThan(2);
    expect(steps.map(({ sent }) => sent)).toEqual(steps.map(({ sent }) => sent).toSorted((a, b) => a - b));
    expect(steps.at(-1)?.sent).toBe(steps.at(-1)?.total);
  });

  test("a token is renewed once, the body made again", async () => {
    const tokens = ["stale", callers.ann.token];
    const upload = uploader(() => tokens.shift() ?? "none").upload(chat, new Blob(["x"]), {
      onProgress: () => {},
    });
    expect(await upload).toMatchObject({ text: "x" });
  });

  test("a signal ends it with its reason", async () => {
    paused = true;
    const abort = new AbortController();
    const upload = uploader().upload(chat, new Blob(["x"]), { signal: abort.signal });
    const arrived = once(server, "request");
    await arrived;
    abort.abort("enough");
    await expect(upload).rejects.toBe("enough");
  });
});

/** As much of a browser's XMLHttpRequest as the client uses; the network is that of Node. */
class BrowserRequest {
  readonly upload: { onprogress: ((event: { loaded: number; total: number }) => void) | null } = {
    onprogress: null,
  };
  status = 0;
  responseText = "";
  onload: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readonly #headers: Record<string, string> = {};
  readonly #abort = new AbortController();
  #url = "";
  #answer = new Headers();

  open(_method: string, url: string): void {
    this.#url = url;
  }
  setRequestHeader(name: string, value: string): void {
    this.#headers[name] = value;
  }
  getResponseHeader(name: string): string | null {
    return this.#answer.get(name);
  }
  abort(): void {
    this.#abort.abort();
  }
  send(body: FormData): void {
    this.upload.onprogress?.({ loaded: 1, total: 2 });
    const { signal } = this.#abort;
    fetch(this.#url, { method: "POST", headers: this.#headers, body, signal }).then(
      async (answer) => {
        this.status = answer.status;
        this.#answer = answer.headers;
        this.responseText = await answer.text();
        this.onload?.();
      },
      () => {
        if (!signal.aborted) this.onerror?.();
      },
    );
  }
}

describe("upload by XMLHttpRequest", () => {
  const onProgress = (step: UploadProgress): void => void steps.push(step);
  let steps: UploadProgress[] = [];
  const inBrowser = (): void => {
    steps = [];
    vi.stubGlobal("XMLHttpRequest", BrowserRequest);
  };

  test("sends the same form and tells the progress", async () => {
    inBrowser();
    expect(await uploader().upload(chat, new File(["abc"], "a.txt"), { onProgress })).toMatchObject({
      filename: "a.txt",
      content_type: "application/octet-stream",
      text: "abc",
    });
    expect(steps).toEqual([{ sent: 1, total: 2 }]);
  });

  test("refusals, a renewed token, a lost connection and a signal are as with fetch", async () => {
    inBrowser();
    const blob = new Blob(["x"]);
    const tokens = ["stale", callers.ann.token];
    expect(await uploader(() => tokens.shift() ?? "").upload(chat, blob, { onProgress })).toMatchObject({
      text: "x",
    });
    await expect(uploader("wrong").upload(chat, blob, { onProgress })).rejects.toMatchObject({
      code: "unauthorized",
    });
    const nowhere = createClient({ baseUrl: "http://127.0.0.1:1", token: "x" }).attachments;
    await expect(nowhere.upload(chat, blob, { onProgress })).rejects.toMatchObject({
      code: "connection_failed",
    });
    paused = true;
    const abort = new AbortController();
    const upload = uploader().upload(chat, blob, { onProgress, signal: abort.signal });
    await once(server, "request");
    abort.abort("enough");
    await expect(upload).rejects.toBe("enough");
  });
});
