import { isRecord } from "../scenario/checks.ts";
import type { RawEvent, ToolEvent, ToolName } from "../scenario/scenario.ts";
import type { Api, Ending, Format, ReadRequest, WireEvent } from "./format.ts";

/** The Responses API (providers.md §2). */
export const responsesApi: Api = {
  read: (body) => {
    const given = isRecord(body) ? body : {};
    const input = Array.isArray(given["input"]) ? given["input"].filter(isRecord) : [];
    return {
      streams: given["stream"] === true,
      model: String(given["model"] ?? ""),
      lastUserText: typeof given["input"] === "string" ? given["input"] : lastUserText(input),
      messages: typeof given["input"] === "string" ? 1 : input.length,
      offered: offeredTools(given["tools"]),
    };
  },
  format: (request, at) => new ResponsesFormat(request, `resp_mock_${at}`),
  failure: (status, message) => ({
    error: { message, type: status === 429 ? "rate_limit_error" : "server_error", code: null },
  }),
};

const textOf = (content: unknown): string => {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .filter(isRecord)
    .map((part) => part["text"])
    .filter((text) => typeof text === "string")
    .join("");
};

const lastUserText = (input: readonly Record<string, unknown>[]): string =>
  textOf(input.findLast((message) => message["role"] === "user")?.["content"]);

const toolTypes: Readonly<Record<string, ToolName>> = {
  web_search: "web_search",
  web_search_preview: "web_search",
  file_search: "file_search",
  code_interpreter: "code_interpreter",
};

const offeredTools = (tools: unknown): ReadonlySet<ToolName> =>
  new Set(
    (Array.isArray(tools) ? tools.filter(isRecord) : []).flatMap(
      (tool) => toolTypes[String(tool["type"])] ?? [],
    ),
  );

const phases = {
  web_search: { start: "searching", progress: "searching", done: "completed" },
  file_search: { start: "searching", progress: "searching", done: "completed" },
  code_interpreter: { start: "in_progress", progress: "interpreting", done: "completed" },
} as const satisfies Record<ToolName, Record<ToolEvent["phase"], string>>;

class ResponsesFormat implements Format {
  readonly #request: ReadRequest;
  readonly #id: string;
  #text = "";
  #sequence = 0;
  #calls = 0;

  constructor(request: ReadRequest, id: string) {
    this.#request = request;
    this.#id = id;
  }

  open(): WireEvent[] {
    return [this.#event("response.created", { response: this.#response("in_progress") })];
  }

  text(text: string): WireEvent[] {
    this.#text += text;
    const event = this.#event("response.output_text.delta", {
      item_id: `msg_${this.#id}`,
      output_index: 0,
      content_index: 0,
      delta: text,
    });
    return [{ ...event, deltas: 1 }];
  }

  reasoning(text: string): WireEvent[] {
    return [this.#event("response.reasoning_summary_text.delta", { item_id: `rs_${this.#id}`, delta: text })];
  }

  tool(event: ToolEvent): WireEvent[] {
    if (event.phase === "start") this.#calls += 1;
    const { tool, phase } = event;
    return [
      this.#event(`response.${tool}_call.${phases[tool][phase]}`, {
        item_id: `call_${this.#id}_${this.#calls}`,
        output_index: 0,
        ...(phase === "done" && tool === "file_search" ? { results: event.results ?? [] } : {}),
        ...(phase === "done" && tool === "code_interpreter" ? { outputs: event.outputs ?? [] } : {}),
      }),
    ];
  }

  custom({ event, data }: RawEvent): WireEvent {
    if (typeof data === "string") return { name: event, data, deltas: 0 };
    return { name: event, data: JSON.stringify({ type: event, ...data }), deltas: 0 };
  }

  end(ending: Ending): WireEvent[] {
    const { terminal } = ending;
    if (terminal === "none") return [];
    return [this.#event(`response.${terminal}`, { response: this.#ended(ending) })];
  }

  whole(ending: Ending): { status: number; body: unknown } {
    return ending.terminal === "failed"
      ? { status: 500, body: { error: ending.error } }
      : { status: 200, body: this.#ended(ending) };
  }

  #event(type: string, more: Record<string, unknown>): WireEvent {
    const data = JSON.stringify({ type, sequence_number: this.#sequence, ...more });
    this.#sequence += 1;
    return { name: type, data, deltas: 0 };
  }

  #response(status: string): Record<string, unknown> {
    return { id: this.#id, object: "response", status, model: this.#request.model };
  }

  #ended(ending: Ending): Record<string, unknown> {
    const { terminal, usage } = ending;
    return {
      ...this.#response(terminal === "none" ? "in_progress" : terminal),
      output: [
        {
          id: `msg_${this.#id}`,
          type: "message",
          role: "assistant",
          content: [{ type: "output_text", text: this.#text, annotations: ending.citations }],
        },
      ],
      ...(terminal === "failed" ? { error: ending.error } : {}),
      ...(terminal === "incomplete" ? { incomplete_details: { reason: ending.incompleteReason } } : {}),
      ...(usage === null
        ? {}
        : {
            usage: {
              input_tokens: usage.input_tokens,
              input_tokens_details: { cached_tokens: usage.cache_read_input_tokens },
              output_tokens: usage.output_tokens,
              output_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
              total_tokens: usage.input_tokens + usage.output_tokens,
            },
          }),
    };
  }
}
