import { expect, test } from "vitest";
import { droppedTools, requestBody, requestPath } from "../../src/providers/openai-responses/request.ts";
import { request, tenant } from "./support.ts";

const identity = `${tenant}:33333333-3333-4333-8333-333333333333`;

test("the smallest request, keys in the order of providers.md §2", () => {
  expect(JSON.stringify(requestBody(request(), true))).toBe(
    JSON.stringify({
      model: "gpt-deployed",
      stream: true,
      store: false,
      previous_response_id: null,
      input: [{ type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] }],
      user: identity,
      metadata: {
        tenant_id: tenant,
        user_id: "33333333-3333-4333-8333-333333333333",
        chat_id: "chat-1",
        request_type: "chat",
        feature: "none",
      },
    }),
  );
});

test("a full request", () => {
  const body = requestBody(
    request({
      systemInstructions: "be brief",
      messages: [
        { role: "system", content: [{ text: "left out" }] },
        { role: "user", content: [{ text: "look" }, { imageFileId: "file-1" }] },
        { role: "assistant", content: [{ text: "seen" }] },
      ],
      maxOutputTokens: 100,
      maxToolCalls: 2,
      tools: [
        { kind: "file_search", vectorStoreIds: ["vs_1"], maxNumResults: 5 },
        { kind: "web_search", searchContextSize: "low" },
        { kind: "code_interpreter", fileIds: ["file-2"] },
        { kind: "function", name: "f", description: "", parameters: {} },
      ],
      metadata: { ...request().metadata, requestType: "summary", features: ["file_search", "web_search"] },
      params: {
        temperature: 0.7,
        top_p: 1,
        frequency_penalty: 0.5,
        presence_penalty: -0.5,
        stop: ["END"],
        extra_body: { a: 1 },
      },
    }),
    false,
  );
  expect(body).toMatchObject({
    stream: false,
    store: false,
    previous_response_id: null,
    instructions: "be brief",
    input: [
      {
        type: "message",
        role: "user",
        content: [
          { type: "input_text", text: "look" },
          { type: "input_image", file_id: "file-1" },
        ],
      },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "seen" }] },
    ],
    max_output_tokens: 100,
    max_tool_calls: 2,
    tools: [
      { type: "file_search", vector_store_ids: ["vs_1"], max_num_results: 5 },
      { type: "web_search", search_context_size: "low" },
      { type: "code_interpreter", container: { type: "auto", file_ids: ["file-2"] } },
    ],
    metadata: { request_type: "summary", feature: "file_search+web_search" },
    temperature: 0.7,
    top_p: 1,
    frequency_penalty: 0.5,
    presence_penalty: -0.5,
    stop: ["END"],
    extra_body: { a: 1 },
  });
  expect(droppedTools([{ kind: "function", name: "f", description: "", parameters: {} }])).toEqual([
    "function",
  ]);
});

test.each([
  ["penalties of 0 and no stop", { frequency_penalty: 0, presence_penalty: 0, stop: [] }, {}],
  [
    "reasoning effort replaces sampling",
    { temperature: 0.7, top_p: 1, reasoning_effort: "low" },
    { reasoning: { effort: "low" } },
  ],
  ["temperature 0 is sent", { temperature: 0 }, { temperature: 0 }],
])("params: %s", (_name, params, expected) => {
  const { model, stream, store, previous_response_id, input, user, metadata, ...rest } = requestBody(
    request({ params }),
    true,
  );
  expect(rest).toEqual(expected);
});

test("no messages: no input; no instructions: none", () => {
  const body = requestBody(request({ messages: [], systemInstructions: "" }), true);
  expect(Object.keys(body)).not.toContain("input");
  expect(Object.keys(body)).not.toContain("instructions");
});

test("the deployment in an Azure path is URL-encoded", () => {
  const target = {
    providerId: "p",
    kind: "openai_responses",
    storageBackend: "azure",
    origin: "https://x",
    apiPath: "/openai/deployments/{model}/responses?api-version=2025-03-01",
    authHeaders: {},
    exposeReasoning: false,
  };
  expect(requestPath(target, "my model/x")).toBe(
    "/openai/deployments/my%20model%2Fx/responses?api-version=2025-03-01",
  );
});
