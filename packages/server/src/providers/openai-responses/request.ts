import type {
  ApiParams,
  ProviderMessage,
  ProviderPart,
  ProviderRequest,
  ProviderTarget,
  ProviderTool,
} from "../contract.ts";

/** The body of `POST …/responses` (providers.md §2), keys in the order of the spec. */
export function requestBody(request: ProviderRequest, stream: boolean): Record<string, unknown> {
  const input = request.messages.flatMap(inputMessage);
  const tools = request.tools.flatMap(wireTool);
  const { tenantId, userId } = request.userIdentity;
  return {
    model: request.model,
    stream,
    // History is ours and always sent whole: the provider keeps nothing.
    store: false,
    previous_response_id: null,
    ...(request.systemInstructions ? { instructions: request.systemInstructions } : {}),
    ...(input.length > 0 ? { input } : {}),
    ...(request.maxOutputTokens === undefined ? {} : { max_output_tokens: request.maxOutputTokens }),
    ...(request.maxToolCalls === undefined ? {} : { max_tool_calls: request.maxToolCalls }),
    user: `${tenantId}:${userId}`,
    metadata: wireMetadata(request.metadata),
    ...(tools.length > 0 ? { tools } : {}),
    ...wireParams(request.params),
  };
}

/** The kinds of tools this API has no form for; they are left out with a debug log (providers.md §1.1). */
export const droppedTools = (tools: readonly ProviderTool[]): readonly string[] =>
  tools.filter((tool) => wireTool(tool).length === 0).map((tool) => tool.kind);

/** Path and query of the call: `{model}` in the configured path is the deployment (providers.md §2.2). */
export const requestPath = (target: ProviderTarget, model: string): string =>
  target.apiPath.replaceAll("{model}", encodeURIComponent(model));

const inputMessage = (message: ProviderMessage): object[] => {
  if (message.role === "system") return [];
  const content = message.content.flatMap(message.role === "user" ? userPart : assistantPart);
  return [{ type: "message", role: message.role, content }];
};

const userPart = (part: ProviderPart): object[] => {
  if ("text" in part) return [{ type: "input_text", text: part.text }];
  if ("imageFileId" in part) return [{ type: "input_image", file_id: part.imageFileId }];
  return [{ type: "input_file", file_id: part.fileId }];
};

// An answer has no images of its own.
const assistantPart = (part: ProviderPart): object[] =>
  "text" in part ? [{ type: "output_text", text: part.text }] : [];

const wireMetadata = (metadata: ProviderRequest["metadata"]): Record<string, string> => ({
  tenant_id: metadata.tenantId,
  user_id: metadata.userId,
  chat_id: metadata.chatId,
  request_type: metadata.requestType,
  feature: metadata.features.length === 0 ? "none" : metadata.features.join("+"),
});

const wireTool = (tool: ProviderTool): object[] => {
  switch (tool.kind) {
    case "file_search":
      return [
        {
          type: "file_search",
          vector_store_ids: tool.vectorStoreIds,
          ...(tool.maxNumResults === undefined ? {} : { max_num_results: tool.maxNumResults }),
          ...(tool.onlyAttachments === undefined ? {} : { filters: attachmentFilter(tool.onlyAttachments) }),
        },
      ];
    case "web_search":
      return [{ type: "web_search", search_context_size: tool.searchContextSize }];
    case "code_interpreter":
      return [{ type: "code_interpreter", container: { type: "auto", file_ids: tool.fileIds } }];
    case "function":
      return [];
  }
};

/** Equalities: the list of an `in` is written in more than one way. */
const attachmentFilter = (ids: readonly string[]): object => {
  const filters = ids.map((value) => ({ type: "eq", key: "attachment_id", value }));
  return filters.length === 1 ? (filters[0] ?? {}) : { type: "or", filters };
};

/** `api_params` as the API wants them: reasoning models refuse sampling parameters. */
const wireParams = (params: ApiParams): Record<string, unknown> => {
  const { temperature, top_p, frequency_penalty, presence_penalty, stop, extra_body } = params;
  const effort = params.reasoning_effort;
  return {
    ...(effort || temperature === undefined ? {} : { temperature }),
    ...(effort || top_p === undefined ? {} : { top_p }),
    ...(frequency_penalty ? { frequency_penalty } : {}),
    ...(presence_penalty ? { presence_penalty } : {}),
    ...(stop !== undefined && stop.length > 0 ? { stop } : {}),
    ...(effort ? { reasoning: { effort } } : {}),
    ...(extra_body === undefined || extra_body === null ? {} : { extra_body }),
  };
};
