import { createServer } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import type { StorageError } from "../../src/providers/storage-contract.ts";
import { collect, context, failureOf, type StorageWorld, storageWorld, upload } from "./storage-support.ts";
import { entry, otherTenant, recordTelemetry, registryOf } from "./support.ts";

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((thing) => thing.close()));
});

const world = async (...args: Parameters<typeof storageWorld>): Promise<StorageWorld> => {
  const started = await storageWorld(...args);
  opened.push(started);
  return started;
};

/** `METHOD path?query` of every request the simulator saw. */
const seen = ({ simulator }: StorageWorld): string[] =>
  simulator.requests().map(({ method, path, query }) => {
    return `${method} ${path}${query === "" ? "" : `?${query}`}`;
  });

/** Every call once, of a file with a store. */
const everyCall = async ({ storage: { files, stores } }: StorageWorld): Promise<void> => {
  const { providerFileId } = await files.upload(context, upload("hello"));
  const store = await stores.create(context);
  await stores.addFile(context, store, providerFileId, { attachment_id: "a-1" });
  await stores.fileStatus(context, store, providerFileId);
  await collect(files.list(context));
  await collect(stores.list(context));
  await stores.removeFile(context, store, providerFileId);
  await files.delete(context, providerFileId);
  await stores.delete(context, store);
};

test("a call the breaker refuses is told from one the provider failed, also by a repetition", async () => {
  const { simulator, storage } = await world({ breaker: { failure_threshold: 2 } });
  simulator.setState({ fail: { deletion: { times: 2, status: 500 } } });
  const deletion = () => failureOf(storage.files.delete(context, "file-1"));
  expect(await deletion()).toMatchObject({ code: "provider_unavailable", reason: "transport" });
  expect(await deletion()).toMatchObject({ code: "provider_unavailable", reason: "refused" });
});

describe("calls on the wire (providers.md §9)", () => {
  test("openai: paths below /v1", async () => {
    const running = await world();
    await everyCall(running);
    expect(seen(running)).toEqual([
      "POST /v1/files",
      "POST /v1/vector_stores",
      "POST /v1/vector_stores/vs_mock_1/files",
      "GET /v1/vector_stores/vs_mock_1/files/file-mock-1",
      "GET /v1/files?purpose=assistants&limit=1000",
      "GET /v1/vector_stores?limit=100",
      "DELETE /v1/vector_stores/vs_mock_1/files/file-mock-1",
      "DELETE /v1/files/file-mock-1",
      "DELETE /v1/vector_stores/vs_mock_1",
    ]);
    expect(running.simulator.state()).toMatchObject({ files: 0, vector_stores: 0 });
  });

  test("azure: paths below /openai with the API version", async () => {
    const running = await world({ storage_kind: "azure", api_version: "2024-10-21" });
    await everyCall(running);
    expect(seen(running)).toEqual([
      "POST /openai/files?api-version=2024-10-21",
      "POST /openai/vector_stores?api-version=2024-10-21",
      "POST /openai/vector_stores/vs_mock_1/files?api-version=2024-10-21",
      "GET /openai/vector_stores/vs_mock_1/files/file-mock-1?api-version=2024-10-21",
      "GET /openai/files?purpose=assistants&limit=1000&api-version=2024-10-21",
      "GET /openai/vector_stores?limit=100&api-version=2024-10-21",
      "DELETE /openai/vector_stores/vs_mock_1/files/file-mock-1?api-version=2024-10-21",
      "DELETE /openai/files/file-mock-1?api-version=2024-10-21",
      "DELETE /openai/vector_stores/vs_mock_1?api-version=2024-10-21",
    ]);
  });

  test("an upload is a form of purpose and file, in pieces, and its bytes arrive unchanged", async () => {
    const running = await world();
    const binary = Buffer.from(Array.from({ length: 70_000 }, (_, n) => (n * 31) % 256));
    const file = upload(binary, "\r\n--mini-chat-\r\n", "");
    const { providerFileId, bytes } = await running.storage.files.upload(context, file);
    expect(bytes).toBe(70_016);
    const [request] = running.simulator.requests();
    expect(request?.headers["transfer-encoding"]).toBe("chunked");
    expect(request?.headers["x-request-id"]).toBe("corr-1");
    const stored = await (
      await fetch(`${running.simulator.url}/v1/files/${providerFileId}/content`)
    ).arrayBuffer();
    expect(Buffer.from(stored)).toEqual(Buffer.concat([binary, Buffer.from("\r\n--mini-chat-\r\n")]));
    const view = await (await fetch(`${running.simulator.url}/v1/files/${providerFileId}`)).json();
    expect(view).toMatchObject({ filename: "chat_attachment.txt", purpose: "assistants" });
  });

  test("a file is added with its attributes", async () => {
    const running = await world();
    const { files, stores } = running.storage;
    const { providerFileId } = await files.upload(context, upload("x"));
    const store = await stores.create(context);
    const status = await stores.addFile(context, store, providerFileId, { attachment_id: "a-1" });
    expect(status).toBe("completed");
    expect(running.simulator.requests().at(-1)?.body).toEqual({
      file_id: providerFileId,
      attributes: { attachment_id: "a-1" },
    });
  });

  test("credentials are those of the upstream; a missing one is a configuration error without a request", async () => {
    const auth = { kind: "apikey", secret_ref: "key" };
    const running = await world({ auth }, { secrets: { key: "sk-very-secret-key" } });
    await running.storage.stores.create(context);
    expect(running.simulator.requests()[0]?.headers["authorization"]).toMatch(/^sha256:/);
    const without = await world({ auth });
    const error = await failureOf(without.storage.stores.create(context));
    expect(error).toMatchObject({ code: "configuration_error", retryable: true });
    expect(without.simulator.requests()).toHaveLength(0);
  });

  test("each call is counted under its endpoint", async () => {
    const running = await world();
    await everyCall(running);
    expect(running.telemetry.recorded.filter((line) => line.startsWith("provider_requests"))).toEqual(
      [
        "files",
        "vector_store_create",
        "vector_store_add",
        "vector_store_poll",
        "list",
        "list",
        "vector_store_remove",
        "file_delete",
        "vector_store_delete",
      ].map((endpoint) => `provider_requests{p,${endpoint}}`),
    );
  });
});

test("lists are read page by page", async () => {
  const running = await world();
  const { files, stores } = running.storage;
  for (let n = 0; n < 205; n += 1) await stores.create(context);
  await files.upload(context, upload("x"));
  const ids = (await collect(stores.list(context))).map(({ id }) => id);
  expect(new Set(ids).size).toBe(205);
  const [file] = await collect(files.list(context));
  expect(file).toMatchObject({ id: "file-mock-1", name: "chat_attachment.txt" });
  expect(Math.abs((file?.createdAt.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
});

describe("index status", () => {
  test.each(["completed", "failed", "cancelled"] as const)(
    "%s after two polls in progress",
    async (status) => {
      const running = await world();
      running.simulator.setState({ indexing: { status, polls: 2 } });
      const { files, stores } = running.storage;
      const { providerFileId: file } = await files.upload(context, upload("x"));
      const store = await stores.create(context);
      const read = (): Promise<string> => stores.fileStatus(context, store, file);
      expect([
        await stores.addFile(context, store, file, {}),
        await read(),
        await read(),
        await read(),
      ]).toEqual(["in_progress", "in_progress", "in_progress", status]);
    },
  );

  test("of a file nobody knows: unknown", async () => {
    const { storage } = await world();
    expect(await storage.stores.fileStatus(context, "vs_none", "file-none")).toBe("unknown");
  });
});

describe("deletion (providers.md §9.1)", () => {
  const deletions = {
    file: (running: StorageWorld) => running.storage.files.delete(context, "file-x"),
    store: (running: StorageWorld) => running.storage.stores.delete(context, "vs_x"),
    "file in a store": (running: StorageWorld) =>
      running.storage.stores.removeFile(context, "vs_x", "file-x"),
  };

  describe.each(Object.entries(deletions))("of a %s", (_name, remove) => {
    test.each([404, 410])("%i is success", async (status) => {
      const running = await world();
      running.simulator.setState({ fail: { deletion: { times: 9, status } } });
      await remove(running);
      expect(running.simulator.requests()).toHaveLength(1);
    });

    test.each([
      [401, true, 1],
      [403, true, 1],
      [408, true, 1],
      [409, true, 1],
      [425, true, 1],
      [429, true, 3],
      [500, true, 3],
      [502, true, 3],
      [503, true, 3],
      [504, true, 3],
      [501, true, 1],
      [400, false, 1],
      [405, false, 1],
      [422, false, 1],
    ])("%i: another attempt may succeed: %s, after %i requests", async (status, retryable, requests) => {
      const running = await world();
      running.simulator.setState({ fail: { deletion: { times: 9, status } } });
      const error = await failureOf(remove(running));
      expect(error).toMatchObject({
        code: status < 500 ? "provider_rejected" : "provider_unavailable",
        httpStatus: status,
        retryable,
      });
      expect(running.simulator.requests()).toHaveLength(requests);
    });

    test("of what is not there, whatever the provider says", async () => {
      const running = await world();
      await remove(running);
      running.simulator.setState({ missing_deletes: "not_found" });
      await remove(running);
    });
  });

  test("a lost connection is tried again", async () => {
    const running = await world();
    running.simulator.setState({ fail: { deletion: { times: 2, status: "drop" } } });
    await deletions.file(running);
    expect(running.simulator.requests()).toHaveLength(3);
    expect(running.telemetry.recorded.filter((line) => line.startsWith("egress_retries"))).toEqual([
      "egress_retries{p,transport}",
      "egress_retries{p,transport}",
    ]);
  });
});

test.each<[string, (running: StorageWorld) => Promise<unknown>]>([
  ["upload", ({ storage }) => storage.files.upload(context, upload("x"))],
  ["store_creation", ({ storage }) => storage.stores.create(context)],
  ["indexing", ({ storage }) => storage.stores.addFile(context, "vs", "file", {})],
])("a failed %s is not repeated, since it may have had its effect", async (operation, run) => {
  const running = await world();
  running.simulator.setState({ fail: { [operation]: { times: 9, status: 503 } } });
  expect((await failureOf(run(running))).code).toBe("provider_unavailable");
  running.simulator.setState({ fail: { [operation]: { times: 9, status: "drop" } } });
  expect(await failureOf(run(running))).toMatchObject({ code: "provider_unavailable", retryable: true });
  expect(running.simulator.requests()).toHaveLength(2);
});

test("an answer without what was asked for is response_parse_error", async () => {
  const server = createServer((_request, response) => response.end("<html>welcome</html>"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  opened.push({ close: async () => void server.close() });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const providers = registryOf({ p: entry(address.port, { storage_kind: "openai" }) });
  opened.push(providers);
  const storage = providers.storage.byProviderId("p");
  if (storage === null) throw new Error("no storage");
  const calls: Promise<StorageError>[] = [
    failureOf(storage.stores.create(context)),
    failureOf(storage.files.upload(context, upload("x"))),
    failureOf(collect(storage.files.list(context))),
    failureOf(storage.stores.fileStatus(context, "vs", "file")),
  ];
  for (const error of await Promise.all(calls)) {
    expect(error).toMatchObject({ code: "response_parse_error", retryable: true });
  }
});

/** A provider that gives every call this answer. */
const answering = async (status: number, body: unknown) => {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(status).end(JSON.stringify(body)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  opened.push({ close: async () => void server.close() });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const telemetry = recordTelemetry();
  const providers = registryOf({ p: entry(address.port, { storage_kind: "openai" }) }, { telemetry });
  opened.push(providers);
  const storage = providers.storage.byProviderId("p");
  if (storage === null) throw new Error("no storage");
  return { storage, telemetry };
};

// Columns and events have 128 characters (data.md §2.4, outbox.md §4.2): a longer id could never be deleted again.
test.each([
  ["of 129 characters", "f".repeat(129)],
  ["with a NUL", "file-\0"],
  ["with a blank", "file 1"],
])("an id %s is none we could keep", async (_name, id) => {
  const { storage } = await answering(200, { id });
  for (const call of [storage.stores.create(context), storage.files.upload(context, upload("x"))]) {
    expect(await failureOf(call)).toMatchObject({ code: "response_parse_error" });
  }
});

test("an id of 128 characters is kept", async () => {
  const id = "f".repeat(128);
  const { storage } = await answering(200, { id });
  expect(await storage.stores.create(context)).toBe(id);
});

test("details do not repeat the ids a call was about, whatever they look like", async () => {
  const [file, store] = ["assistant-9f8e7d", "7b1c/2 d"];
  const message = `No file ${file} in ${store} (${encodeURIComponent(store)}).`;
  const { storage, telemetry } = await answering(400, { error: { message } });
  const { files, stores } = storage;
  const inStore = [
    stores.addFile(context, store, file, {}),
    stores.fileStatus(context, store, file),
    stores.removeFile(context, store, file),
  ];
  for (const { detail } of await Promise.all(inStore.map(failureOf))) {
    expect(detail).toContain("No file [provider_id] in [provider_id] ([provider_id]).");
  }
  for (const id of [file, store, encodeURIComponent(store)]) expect(telemetry.lines.join()).not.toContain(id);
  expect((await failureOf(files.delete(context, file))).detail).not.toContain(file);
  expect((await failureOf(stores.delete(context, store))).detail).not.toContain(store);
});

test("details show no credential, host or provider id", async () => {
  const key = "sk-very-secret-key-0123456789";
  const running = await world({ auth: { kind: "apikey", secret_ref: "key" } }, { secrets: { key } });
  const error = await failureOf(running.storage.stores.addFile(context, "vs_mock_77", "file-mock-1", {}));
  const shown = JSON.stringify([error.message, error.detail, running.telemetry.lines]);
  expect(error.detail).toContain("HTTP 404");
  for (const hidden of [key, "127.0.0.1", "vs_mock_77", "file-mock-1"]) expect(shown).not.toContain(hidden);
});

describe("which storage", () => {
  const kinds = (more: Record<string, Record<string, unknown>>) => {
    const providers = registryOf(more);
    opened.push(providers);
    return providers.storage;
  };

  test("none uses that of its rag_provider; without one there is none", () => {
    const storage = kinds({
      models: entry(1, { storage_kind: "none", rag_provider: "files" }),
      files: entry(1, { storage_kind: "openai", storage_backend: "shelf" }),
      bare: entry(1, { storage_kind: "none" }),
    });
    expect(storage.forModelProvider("models")).toMatchObject({
      providerId: "files",
      storageBackend: "shelf",
    });
    expect(storage.forModelProvider("files")).toBe(storage.byProviderId("files"));
    expect([
      storage.forModelProvider("bare"),
      storage.forModelProvider("unknown"),
      storage.forModelProvider("constructor"),
      storage.byProviderId("models"),
      storage.byProviderId("unknown"),
    ]).toEqual([null, null, null, null, null]);
  });

  test("azure without api_version does not start", () => {
    expect(() => kinds({ p: entry(1, { storage_kind: "azure" }) })).toThrow("api_version");
  });

  test("a tenant with an override never reaches the root upstream, and the reverse", async () => {
    const root = await world(
      {
        tenant_overrides: {
          [otherTenant]: { host: "localhost", auth: { kind: "apikey", secret_ref: "own" } },
        },
        auth: { kind: "apikey", secret_ref: "root" },
      },
      { secrets: { own: "own-key-0123", root: "root-key-0123" } },
    );
    await root.storage.stores.create({ ...context, tenantId: otherTenant });
    await root.storage.stores.create(context);
    await root.storage.stores.create({ ...context, tenantId: null });
    const [first, second, third] = root.simulator.requests();
    expect(first?.headers["host"]).toBe(`localhost:${root.simulator.port}`);
    expect(second?.headers["host"]).toBe(`127.0.0.1:${root.simulator.port}`);
    expect(second?.headers["authorization"]).not.toBe(first?.headers["authorization"]);
    expect(third?.headers["authorization"]).toBe(second?.headers["authorization"]);
    expect(root.providers.storage.accounts().map(({ tenantId }) => tenantId)).toEqual([null, otherTenant]);
  });
});

test("memory keeps what it is given, in this process", async () => {
  const { storage } = await world({ storage_kind: "memory" });
  const { files, stores } = storage;
  const { providerFileId, bytes } = await files.upload(context, upload("abc", "de"));
  const store = await stores.create(context);
  expect(bytes).toBe(5);
  expect(await stores.addFile(context, store, providerFileId, {})).toBe("completed");
  expect((await collect(files.list(context))).map(({ name }) => name)).toEqual(["chat_attachment.txt"]);
  await files.delete(context, providerFileId);
  expect(await stores.fileStatus(context, store, providerFileId)).toBe("unknown");
  await stores.delete(context, store);
  await files.delete(context, providerFileId);
  expect([await collect(files.list(context)), await collect(stores.list(context))]).toEqual([[], []]);
  expect(await failureOf(stores.addFile(context, store, providerFileId, {}))).toMatchObject({
    code: "provider_rejected",
  });
});
