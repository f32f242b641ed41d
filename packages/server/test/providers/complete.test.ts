import { afterEach, describe, expect, test } from "vitest";
import type { ProviderCompletion, ProviderRegistry } from "../../src/providers/contract.ts";
import {
  entry,
  head,
  normalisedUsage,
  type Received,
  registryOf,
  request,
  startScriptedProvider,
  tenant,
  usage,
  whole,
} from "./support.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

const setUp = async (
  answer: (received: Received, count: number) => void,
): Promise<{ complete: () => Promise<ProviderCompletion>; requests: readonly Received[] }> => {
  const provider = await startScriptedProvider(answer);
  const registry: ProviderRegistry = registryOf(
    { p: entry(provider.port) },
    { egress: { non_streaming_timeout_secs: 0.3 } },
  );
  opened.push(provider, registry);
  const target = registry.resolve("p", tenant);
  if (target === null) throw new Error("not configured");
  return {
    complete: () => registry.adapter(target).complete(request(), target, new AbortController().signal),
    requests: provider.requests,
  };
};

const output = [
  { type: "reasoning", summary: [] },
  {
    type: "message",
    content: [
      { type: "output_text", text: "Hello ", annotations: [{ type: "file_citation", file_id: "file-1" }] },
      { type: "refusal", refusal: "no" },
      { type: "output_text", text: "world" },
    ],
  },
];

describe("a whole answer (providers.md §1.2, §2)", () => {
  test("all output texts in a row, usage, id and citations", async () => {
    const { complete, requests } = await setUp(({ socket }) =>
      socket.write(whole(200, { id: "resp_1", status: "completed", output, usage })),
    );
    expect(await complete()).toEqual({
      content: "Hello world",
      usage: normalisedUsage,
      responseId: "resp_1",
      citations: [{ source: "file", providerFileId: "file-1" }],
    });
    expect(requests[0]?.body).toMatchObject({ stream: false, store: false });
    expect(requests[0]?.headers).toMatchObject({
      accept: "application/json",
      "content-type": "application/json",
      "x-request-id": "turn-1",
    });
  });

  test("nothing said", async () => {
    const { complete } = await setUp(({ socket }) => socket.write(whole(200, {})));
    expect(await complete()).toEqual({ content: "", usage: null, citations: [] });
  });

  test.each<[string, (received: Received) => void, object]>([
    [
      "status failed",
      ({ socket }) =>
        socket.write(whole(200, { status: "failed", error: { code: "x", message: "no vs_123" } })),
      { code: "provider_error", message: "no [provider_id]", detail: "x: no vs_123", started: true },
    ],
    [
      "HTTP 429",
      ({ socket }) => socket.write(whole(429, "x")),
      { code: "rate_limited", httpStatus: 429, started: true },
    ],
    [
      "an answer that is no JSON",
      ({ socket }) => socket.write(whole(200, "hello")),
      { code: "provider_error", message: "the provider sent an unreadable answer" },
    ],
    [
      "an answer that does not end in time",
      ({ socket }) => socket.write(`${head(200, {}, 100)}{`),
      { code: "provider_timeout", message: "provider did not answer in time" },
    ],
    [
      "a lost connection",
      ({ socket }) => socket.write(`${head(200, {}, 100)}{`, () => socket.resetAndDestroy()),
      { code: "provider_error", message: "the connection to the provider was lost" },
    ],
  ])("%s is thrown as ProviderError", async (_name, answer, expected) => {
    const { complete } = await setUp(answer);
    await expect(complete()).rejects.toMatchObject({ name: "ProviderError", ...expected });
  });

  test("one retry", async () => {
    const { complete, requests } = await setUp(({ socket }, count) =>
      socket.write(count === 1 ? whole(503, "x", { "retry-after": "0" }) : whole(200, { output })),
    );
    expect((await complete()).content).toBe("Hello world");
    expect(requests).toHaveLength(2);
  });
});
