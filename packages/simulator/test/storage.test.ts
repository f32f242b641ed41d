import { describe, expect, test } from "vitest";
import type { Simulator } from "../src/index.ts";
import { add, createStore, upload, uploadTo } from "./storage-support.ts";
import { at, object, post, send, simulatorFor } from "./support.ts";

describe("files", () => {
  test("an upload is kept byte for byte, under the name and purpose it was given", async () => {
    const simulator = await simulatorFor();
    const bytes = Uint8Array.from({ length: 70_000 }, (_none, n) => (n * 7) % 256);
    const response = await uploadTo(simulator, bytes, "chat_1.bin");
    const view = await response.json();
    expect(view).toMatchObject({
      id: "file-mock-1",
      object: "file",
      bytes: 70_000,
      filename: "chat_1.bin",
      purpose: "assistants",
      created_at: expect.any(Number),
    });
    expect(await send(simulator, "GET", "/v1/files/file-mock-1")).toEqual({
      ...object(view),
      status: "processed",
    });
    const content = await fetch(`${simulator.url}/v1/files/file-mock-1/content`);
    expect(content.headers.get("content-type")).toBe("text/plain");
    expect(new Uint8Array(await content.arrayBuffer())).toEqual(bytes);
  });

  test("the captured form shows its fields", async () => {
    const simulator = await simulatorFor();
    await upload(simulator, "12345", "x.pdf");
    expect(simulator.requests()[0]?.body).toEqual({
      purpose: "assistants",
      file: { filename: "x.pdf", content_type: "text/plain", bytes: 5 },
    });
  });

  test.each(["file", "purpose"])("a form without %s is 400", async (field) => {
    const simulator = await simulatorFor();
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob(["x"]), "a.txt");
    form.delete(field);
    const response = await fetch(`${simulator.url}/v1/files`, { method: "POST", body: form });
    expect([response.status, at(await response.json(), "error", "message")]).toEqual([
      400,
      `Missing required parameter: '${field}'.`,
    ]);
  });

  test.each(["application/json", "multipart/form-data; boundary=b"])(
    "a broken form of %s is 400",
    async (type) => {
      const simulator = await simulatorFor();
      const init = { method: "POST", body: "{}", headers: { "content-type": type } };
      expect((await fetch(`${simulator.url}/v1/files`, init)).status).toBe(400);
      expect(simulator.state().files).toBe(0);
    },
  );

  test("a list has pages, newest first unless asked otherwise", async () => {
    const simulator = await simulatorFor();
    for (let n = 0; n < 5; n += 1) await upload(simulator, "x");
    const ids = async (query: string): Promise<unknown[]> => {
      const page = await send(simulator, "GET", `/v1/files?${query}`);
      const data = Array.isArray(page["data"]) ? page["data"] : [];
      return [...data.map((file: unknown) => Number(String(at(file, "id")).slice(-1))), page["has_more"]];
    };
    expect(await ids("")).toEqual([5, 4, 3, 2, 1, false]);
    expect(await ids("limit=2")).toEqual([5, 4, true]);
    expect(await ids("limit=2&after=file-mock-4")).toEqual([3, 2, true]);
    expect(await ids("limit=2&after=file-mock-2")).toEqual([1, false]);
    expect(await ids("order=asc&limit=3")).toEqual([1, 2, 3, true]);
    expect(await ids("purpose=vision")).toEqual([false]);
  });

  test("what is unknown is 404", async () => {
    const simulator = await simulatorFor();
    for (const path of ["/v1/files/file-x", "/v1/files/file-x/content", "/v1/vector_stores/vs_x"]) {
      expect(await send(simulator, "GET", path)).toMatchObject({ status: 404 });
    }
    expect((await post(simulator, "/v1/vector_stores/vs_x/files", { file_id: "f" })).status).toBe(404);
    expect((await post(simulator, "/v1/vector_stores/vs_x/search", { query: "q" })).status).toBe(404);
    const store = await createStore(simulator);
    expect(await add(simulator, store, "file-x")).toMatchObject({ status_code: 404 });
  });
});

describe("deleting", () => {
  const unknown = ["/v1/files/file-x", "/v1/vector_stores/vs_x", "/v1/vector_stores/vs_x/files/file-x"];

  test.each(unknown)("%s, which is unknown: 200 with deleted false, or 404 by switch", async (path) => {
    const simulator = await simulatorFor();
    expect(await send(simulator, "DELETE", path)).toMatchObject({ status: 200, deleted: false });
    simulator.setState({ missing_deletes: "not_found" });
    expect(await send(simulator, "DELETE", path)).toMatchObject({ status: 404 });
  });

  test("a deleted file is gone, also from its stores", async () => {
    const simulator = await simulatorFor();
    const [file, store] = [await upload(simulator, "x"), await createStore(simulator)];
    await add(simulator, store, file);
    expect(await send(simulator, "DELETE", `/v1/files/${file}`)).toEqual({
      status: 200,
      id: file,
      object: "file",
      deleted: true,
    });
    expect(await send(simulator, "GET", `/v1/files/${file}`)).toMatchObject({ status: 404 });
    expect(await send(simulator, "GET", `/v1/vector_stores/${store}/files/${file}`)).toMatchObject({
      status: 404,
    });
  });

  test("a file taken out of a store is still a file", async () => {
    const simulator = await simulatorFor();
    const [file, store] = [await upload(simulator, "x"), await createStore(simulator)];
    await add(simulator, store, file);
    const path = `/v1/vector_stores/${store}/files/${file}`;
    expect(await send(simulator, "DELETE", path)).toMatchObject({ deleted: true });
    expect(await send(simulator, "DELETE", path)).toMatchObject({ deleted: false });
    expect(await send(simulator, "GET", `/v1/files/${file}`)).toMatchObject({ status: "processed" });
  });
});

describe("vector stores", () => {
  test("a store counts its files by their status", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    await add(simulator, store, await upload(simulator, "12345"), { attachment_id: "a" });
    simulator.setState({ indexing: { status: "failed" } });
    const failed = await add(simulator, store, await upload(simulator, "12"));
    expect(failed).toMatchObject({ status: "failed", last_error: { code: "server_error" } });
    expect(await send(simulator, "GET", `/v1/vector_stores/${store}`)).toMatchObject({
      id: "vs_mock_1",
      object: "vector_store",
      usage_bytes: 7,
      file_counts: { in_progress: 0, completed: 1, failed: 1, cancelled: 0, total: 2 },
    });
    expect(await send(simulator, "GET", `/v1/vector_stores/${store}/files?order=asc&limit=1`)).toMatchObject({
      data: [{ id: "file-mock-1", vector_store_id: store, attributes: { attachment_id: "a" } }],
      has_more: true,
    });
  });

  test.each(["completed", "failed", "cancelled"] as const)(
    "indexing that ends %s after the programmed number of status reads",
    async (status) => {
      const simulator = await simulatorFor();
      const [file, store] = [await upload(simulator, "x"), await createStore(simulator)];
      simulator.setState({ indexing: { status, polls: 2 } });
      expect(await add(simulator, store, file)).toMatchObject({ status: "in_progress" });
      const read = async (): Promise<unknown> => {
        const response = await fetch(`${simulator.url}/v1/vector_stores/${store}/files/${file}`);
        return at(await response.json(), "status");
      };
      expect([await read(), await read(), await read(), await read()]).toEqual([
        "in_progress",
        "in_progress",
        status,
        status,
      ]);
    },
  );

  test("a store can be created with files", async () => {
    const simulator = await simulatorFor();
    const file = await upload(simulator, "x");
    const body = { name: "n", metadata: { a: "1" }, file_ids: [file] };
    expect(await (await post(simulator, "/v1/vector_stores", body)).json()).toMatchObject({
      name: "n",
      metadata: { a: "1" },
      file_counts: { total: 1 },
    });
  });
});

describe("search", () => {
  const setUp = async (): Promise<{ simulator: Simulator; store: string }> => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    const texts = ["The red cat sleeps.", "A red house.", "Nothing of the kind."];
    for (const [n, text] of texts.entries()) {
      await add(simulator, store, await upload(simulator, text, `${n}.txt`), {
        kind: n % 2 === 0 ? "even" : "odd",
      });
    }
    return { simulator, store };
  };
  const found = async (body: Record<string, unknown>): Promise<unknown[]> => {
    const { simulator, store } = await setUp();
    const response = await post(simulator, `/v1/vector_stores/${store}/search`, body);
    const { data } = object(await response.json());
    return (Array.isArray(data) ? data : []).map((hit: unknown) => [at(hit, "filename"), at(hit, "score")]);
  };

  test.each<[string, Record<string, unknown>, unknown[]]>([
    [
      "by shared words",
      { query: "red CAT" },
      [
        ["0.txt", 1],
        ["1.txt", 0.5],
      ],
    ],
    [
      "over several queries",
      { query: ["red", "house"] },
      [
        ["1.txt", 1],
        ["0.txt", 0.5],
      ],
    ],
    ["at most so many", { query: "red cat", max_num_results: 1 }, [["0.txt", 1]]],
    [
      "of at least this score",
      { query: "red cat", ranking_options: { score_threshold: 0.6 } },
      [["0.txt", 1]],
    ],
    ["of at least this score, written flat", { query: "red cat", score_threshold: 0.6 }, [["0.txt", 1]]],
    ["with eq", { query: "red", filters: { type: "eq", key: "kind", value: "odd" } }, [["1.txt", 1]]],
    ["with in", { query: "red", filters: { type: "in", key: "kind", values: ["even"] } }, [["0.txt", 1]]],
    [
      "with in, as the API has it",
      { query: "red", filters: { type: "in", key: "kind", value: ["even"] } },
      [["0.txt", 1]],
    ],
    [
      "with and",
      {
        query: "red",
        filters: {
          type: "and",
          filters: [
            { type: "eq", key: "kind", value: "even" },
            { type: "eq", key: "kind", value: "odd" },
          ],
        },
      },
      [],
    ],
    [
      "with or",
      {
        query: "red",
        filters: {
          type: "or",
          filters: [
            { type: "eq", key: "kind", value: "even" },
            { type: "eq", key: "kind", value: "odd" },
          ],
        },
      },
      [
        ["0.txt", 1],
        ["1.txt", 1],
      ],
    ],
    ["with an unknown filter", { query: "red", filters: { type: "like", key: "kind", value: "odd" } }, []],
    ["without a common word", { query: "zebra" }, []],
  ])("ranks %s", async (_case, body, expected) => {
    expect(await found(body)).toEqual(expected);
  });

  test("shows the passage that matches", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    await add(simulator, store, await upload(simulator, `${"word ".repeat(400)}the needle is here`));
    const response = await post(simulator, `/v1/vector_stores/${store}/search`, { query: "needle" });
    expect(at(await response.json(), "data", 0, "content", 0, "text")).toMatch(/needle/);
  });

  test("finds only what is indexed", async () => {
    const simulator = await simulatorFor();
    const store = await createStore(simulator);
    simulator.setState({ indexing: { status: "completed", polls: 1 } });
    await add(simulator, store, await upload(simulator, "needle"));
    const response = await post(simulator, `/v1/vector_stores/${store}/search`, { query: "needle" });
    expect(at(await response.json(), "data")).toEqual([]);
  });

  test("without a query is 400", async () => {
    const { simulator, store } = await setUp();
    expect((await post(simulator, `/v1/vector_stores/${store}/search`, {})).status).toBe(400);
  });
});
