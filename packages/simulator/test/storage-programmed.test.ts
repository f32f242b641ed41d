import { describe, expect, test } from "vitest";
import type { Simulator } from "../src/index.ts";
import { add, createStore, upload, uploadTo } from "./storage-support.ts";
import { ask, at, finalOf, post, readEvents, send, simulatorFor } from "./support.ts";

describe("placeholders", () => {
  const citation = (file: string): object => ({ type: "file_citation", file_id: file });
  const cited = async (simulator: Simulator, text: string, tools: object[] = []): Promise<unknown[]> => {
    const response = await post(simulator, "/v1/responses", ask(text, { tools }));
    const final = finalOf(readEvents(Buffer.from(await response.arrayBuffer())));
    const output = Array.isArray(final["output"]) ? final["output"] : [];
    const annotations = at(output.at(-1), "content", 0, "annotations");
    return (Array.isArray(annotations) ? annotations : []).map((entry: unknown) => at(entry, "file_id"));
  };

  test("{{file:n}} is the n-th upload, also a deleted one", async () => {
    const simulator = await simulatorFor({
      events: [{ text: "{{file:2}}" }],
      citations: ["{{file:2}}", "{{file:1}}", "{{file:3}}"].map(citation) as Record<string, unknown>[],
    });
    await upload(simulator, "one");
    const second = await upload(simulator, "two");
    await send(simulator, "DELETE", `/v1/files/${second}`);
    expect(await cited(simulator, "x")).toEqual(["file-mock-2", "file-mock-1", "file-mock-none"]);
  });

  test("FILESEARCH:* cites the file of the offered store that matches best", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    await upload(simulator, "elsewhere: zebra");
    for (const text of ["apple", "zebra"]) await add(simulator, store, await upload(simulator, text));
    const tools = [{ type: "file_search", vector_store_ids: [store] }];
    expect(await cited(simulator, "FILESEARCH: a zebra?", tools)).toEqual(["file-mock-3"]);
    expect(await cited(simulator, "FILESEARCH: unknown", tools)).toEqual(["file-mock-2"]);
  });

  test("{{found:n}} ranks over all offered stores", async () => {
    const citations = ["{{found:1}}", "{{found:2}}", "{{found:3}}"].map((file_id) => ({
      type: "file_citation",
      file_id,
    }));
    const simulator = await simulatorFor({ citations });
    const stores = [await createStore(simulator), await createStore(simulator)];
    for (const [n, text] of ["one red", "a red cat"].entries()) {
      await add(simulator, stores[n] ?? "", await upload(simulator, text));
    }
    const tools = [{ type: "file_search", vector_store_ids: stores }];
    expect(await cited(simulator, "red cat", tools)).toEqual([
      "file-mock-2",
      "file-mock-1",
      "file-mock-none",
    ]);
  });
});

describe("programmed failures (providers.md §11.4)", () => {
  const operations: Record<string, (simulator: Simulator) => Promise<number>> = {
    upload: async (simulator) => (await uploadTo(simulator, "x")).status,
    store_creation: async (simulator) => (await post(simulator, "/v1/vector_stores", {})).status,
    indexing: async (simulator) => {
      const [file, store] = [await upload(simulator, "x"), await createStore(simulator)];
      return Number((await add(simulator, store, file))["status_code"]);
    },
    deletion: async (simulator) => (await fetch(`${simulator.url}/v1/files/f`, { method: "DELETE" })).status,
  };

  test.each(Object.entries(operations))(
    "the next two of %s fail with the status, the third does not",
    async (name, run) => {
      const simulator = await simulatorFor();
      simulator.setState({ fail: { [name]: { times: 2, status: 503 } } });
      expect([await run(simulator), await run(simulator), await run(simulator)]).toEqual([503, 503, 200]);
      expect(simulator.state().fail).toEqual({});
    },
  );

  test("deletion means stores and their files too", async () => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { deletion: { times: 2 } } });
    expect(await send(simulator, "DELETE", "/v1/vector_stores/v")).toMatchObject({ status: 500 });
    expect(await send(simulator, "DELETE", "/v1/vector_stores/v/files/f")).toMatchObject({ status: 500 });
  });

  test("a failed operation changes nothing", async () => {
    const simulator = await simulatorFor();
    const file = await upload(simulator, "x");
    simulator.setState({ fail: { upload: { times: 1 }, deletion: { times: 1 } } });
    await uploadTo(simulator, "y");
    await send(simulator, "DELETE", `/v1/files/${file}`);
    expect(simulator.state().files).toBe(1);
  });

  test("a connection can be reset or get no answer", async () => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { upload: { times: 1, status: "drop" } } });
    await expect(uploadTo(simulator, "x")).rejects.toThrow();
    simulator.setState({ fail: { deletion: { times: 1, status: "hang" } } });
    const controller = new AbortController();
    const hanging = fetch(`${simulator.url}/v1/files/f`, { method: "DELETE", signal: controller.signal });
    const request = await simulator.waitForRequest(({ method }) => method === "DELETE");
    controller.abort();
    await expect(hanging).rejects.toThrow();
    expect(await request.closed).toMatchObject({ by: "client" });
  });

  test("with a gate and no status the operation waits and then succeeds", async () => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { store_creation: { times: 2, gate: "both" } } });
    const creating = Promise.all([createStore(simulator), createStore(simulator)]);
    await simulator.arrived("both");
    await simulator.waitForRequest(() => simulator.requests().length === 2);
    expect(simulator.state().vector_stores).toBe(0);
    simulator.open("both");
    expect(new Set(await creating).size).toBe(2);
  });

  test("a failure is taken back with null", async () => {
    const simulator = await simulatorFor();
    simulator.setState({ fail: { upload: { times: 9 }, indexing: { times: 1 } } });
    simulator.setState({ fail: { upload: null } });
    expect(simulator.state().fail).toEqual({ indexing: { times: 1 } });
    expect((await uploadTo(simulator, "x")).status).toBe(200);
  });
});
