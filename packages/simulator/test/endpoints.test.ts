import { describe, expect, test } from "vitest";
import { ask, at, post, send, simulatorFor } from "./support.ts";

const prefixes = ["", "/v1", "/openai", "/openai/v1"];

describe("every path with and without its prefixes (providers.md §11.1)", () => {
  const chat = { model: "m", messages: [{ role: "user", content: "PING" }] };
  const responses = ask("PING", { stream: false });
  const calls: readonly { path: string; body: object; answer: readonly (string | number)[] }[] = [
    { path: "/responses", body: responses, answer: ["output", 0, "content", 0, "text"] },
    {
      path: "/deployments/gpt%204/responses?api-version=1",
      body: responses,
      answer: ["output", 0, "content", 0, "text"],
    },
    { path: "/chat/completions", body: chat, answer: ["choices", 0, "message", "content"] },
    {
      path: "/deployments/gpt%204/chat/completions",
      body: chat,
      answer: ["choices", 0, "message", "content"],
    },
    { path: "/messages", body: chat, answer: ["content", 0, "text"] },
  ];

  test.each(
    prefixes.flatMap((prefix) => calls.map(({ path, ...call }) => ({ path: prefix + path, ...call }))),
  )("POST $path", async ({ path, body, answer }) => {
    const response = await post(await simulatorFor(), path, body);
    expect(response.status).toBe(200);
    const answered = await response.json();
    expect(at(answered, ...answer)).toBe("PONG");
    expect(at(answered, "model")).toBe(path.includes("deployments") ? "gpt 4" : "m");
  });

  test("POST /anthropic/v1/messages, where Foundry has it", async () => {
    const response = await post(await simulatorFor(), "/anthropic/v1/messages", chat);
    expect(at(await response.json(), "content", 0, "text")).toBe("PONG");
  });

  test.each(prefixes)("files and vector stores below %j", async (prefix) => {
    const simulator = await simulatorFor();
    const query = "?api-version=2025-01-01";
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new Blob(["hello"]), "a.txt");
    const upload = await fetch(`${simulator.url}${prefix}/files${query}`, { method: "POST", body: form });
    const file = at(await upload.json(), "id");
    const store = at(await (await post(simulator, `${prefix}/vector_stores${query}`, {})).json(), "id");
    const inStore = `${prefix}/vector_stores/${store}/files`;
    const added = await post(simulator, inStore + query, { file_id: file });
    const search = await post(simulator, `${prefix}/vector_stores/${store}/search`, { query: "hello" });
    expect([added.status, search.status]).toEqual([200, 200]);
    const content = await fetch(`${simulator.url}${prefix}/files/${file}/content`);
    expect(await content.text()).toBe("hello");
    for (const path of [`${prefix}/files`, `${prefix}/vector_stores`, inStore]) {
      expect(await send(simulator, "GET", path + query)).toMatchObject({ status: 200, object: "list" });
    }
    for (const path of [
      `${inStore}/${file}`,
      `${prefix}/vector_stores/${store}`,
      `${prefix}/files/${file}`,
    ]) {
      expect(await send(simulator, "GET", path)).toMatchObject({ object: expect.any(String) });
      expect(await send(simulator, "DELETE", path)).toMatchObject({ status: 200, deleted: true });
    }
  });
});

describe("what is no request for a provider", () => {
  test.each([
    ["GET", "/v1/responses", 405],
    ["PUT", "/v1/files", 405],
    ["GET", "/v1/nothing", 404],
    ["GET", "/v2/files", 404],
    ["GET", "/v1/files//content", 404],
    ["GET", "/", 404],
  ])("%s %s is %i", async (method, path, status) => {
    expect(await send(await simulatorFor(), method, path)).toMatchObject({
      status,
      error: { code: "not_found" },
    });
  });

  test("a body that is no JSON is 400", async () => {
    const simulator = await simulatorFor();
    const response = await fetch(`${simulator.url}/v1/responses`, { method: "POST", body: "{" });
    expect(response.status).toBe(400);
    expect(at(await response.json(), "error", "code")).toBe("invalid_json");
  });
});
