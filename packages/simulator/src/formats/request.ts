import { isRecord } from "../scenario/checks.ts";
import { type ToolName, toolNames } from "../scenario/scenario.ts";

/** The APIs a model can be called by. */
export type Api = "responses" | "chat" | "messages";

/** What the simulator reads out of a request to a model. */
export interface ModelRequest {
  readonly model: string;
  readonly stream: boolean;
  /** At least 1. */
  readonly inputMessages: number;
  /** "" when there is none. */
  readonly lastUserText: string;
  /** Of the message right before it; "" when there is none, or it is no user's. */
  readonly textBefore: string;
  /** `metadata.request_type` says that a thread is to be summarised. */
  readonly isSummary: boolean;
  readonly offered: ReadonlySet<ToolName>;
  readonly vectorStoreIds: readonly string[];
  /** `filters` of the file search; undefined without any. */
  readonly fileFilter: unknown;
  readonly usageWanted: boolean;
}

/** Reads leniently: what is missing or odd is the business of the adapter's own tests. */
export const readModelRequest = (api: Api, body: unknown, deployment: string | null): ModelRequest => {
  const request = isRecord(body) ? body : {};
  const messages = messagesOf(api === "responses" ? request["input"] : request["messages"]);
  const tools = list(request["tools"]).filter(isRecord);
  const lastAt = messages.findLastIndex((message) => message["role"] === "user");
  const last = messages[lastAt];
  const before = messages[lastAt - 1];
  const streamOptions = request["stream_options"];
  return {
    model: deployment ?? (typeof request["model"] === "string" ? request["model"] : "simulated-model"),
    stream: request["stream"] === true,
    inputMessages: Math.max(1, messages.length),
    lastUserText: textOf(last?.["content"]),
    textBefore: before?.["role"] === "user" ? textOf(before["content"]) : "",
    isSummary: isRecord(request["metadata"]) && request["metadata"]["request_type"] === "summary",
    // The tools of Chat Completions are functions of the caller.
    offered: new Set(api === "chat" ? [] : tools.flatMap(toolNameOf)),
    vectorStoreIds: tools.flatMap((tool) => list(tool["vector_store_ids"]).filter(isText)),
    fileFilter: tools.find((tool) => tool["type"] === "file_search")?.["filters"],
    usageWanted: isRecord(streamOptions) && streamOptions["include_usage"] === true,
  };
};

const messagesOf = (input: unknown): readonly Record<string, unknown>[] => {
  if (typeof input === "string") return [{ role: "user", content: input }];
  return list(input)
    .filter(isRecord)
    .filter((item) => typeof item["role"] === "string");
};

const textOf = (content: unknown): string => {
  if (typeof content === "string") return content;
  return list(content)
    .filter(isRecord)
    .map((part) => part["text"])
    .filter(isText)
    .join("");
};

/** Types carry versions ("web_search_preview", "code_execution_20250825"). */
const toolNameOf = (tool: Record<string, unknown>): ToolName[] => {
  const type = String(tool["type"]).replace(/^code_execution/, "code_interpreter");
  return toolNames.filter((name) => type.startsWith(name));
};

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const isText = (value: unknown): value is string => typeof value === "string";
