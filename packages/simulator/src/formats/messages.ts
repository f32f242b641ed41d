import type { ToolEvent, Usage } from "../scenario/scenario.ts";
import { type Answer, customEvent, type Ending, type Format, type WireEvent } from "./format.ts";

type Block = { type: string } & Record<string, unknown>;

/** The Messages API of Anthropic (providers.md §6): text, thinking and the provider's own tools, no citations. */
export const messagesFormat = (answer: Answer): Format => {
  const blocks: Block[] = [];
  let open: { index: number; parts: string[]; kind: "text" | "thinking" } | null = null;
  const close = (): WireEvent[] => {
    if (open === null) return [];
    blocks[open.index] = { type: open.kind, [open.kind]: open.parts.join("") };
    const stop = event("content_block_stop", { index: open.index });
    open = null;
    return [stop];
  };
  const add = (kind: "text" | "thinking", content: string): WireEvent[] => {
    const before: WireEvent[] = [];
    if (open?.kind !== kind) {
      before.push(...close());
      open = { index: blocks.length, parts: [], kind };
      blocks.push({ type: kind });
      before.push(
        event("content_block_start", { index: open.index, content_block: { type: kind, [kind]: "" } }),
      );
    }
    open.parts.push(content);
    const delta = { index: open.index, delta: { type: `${kind}_delta`, [kind]: content } };
    return [...before, event("content_block_delta", delta, 1)];
  };
  const whole = (block: Block): WireEvent[] => {
    const index = blocks.push(block) - 1;
    return [
      event("content_block_start", { index, content_block: block }),
      event("content_block_stop", { index }),
    ];
  };
  return {
    open: () => [event("message_start", { message: message(answer, [], null) }), event("ping", {})],
    text: (content) => add("text", content),
    reasoning: (content) => add("thinking", content),
    tool: (call) => {
      const block = toolBlock(call, blocks.length);
      return block === null ? [] : [...close(), ...whole(block)];
    },
    custom: customEvent,
    end: (ending) => {
      const closing = close();
      if (ending.terminal === "failed") return [...closing, event("error", failure(ending))];
      const usage = answer.usage === null ? {} : { usage: wireUsage(answer.usage) };
      const delta = { delta: { stop_reason: stopReason(ending), stop_sequence: null }, ...usage };
      return [...closing, event("message_delta", delta), event("message_stop", {})];
    },
    whole: (ending) => {
      close();
      return ending.terminal === "failed"
        ? { type: "error", ...failure(ending) }
        : message(answer, blocks, stopReason(ending));
    },
  };
};

const event = (type: string, body: object, deltas = 0): WireEvent => ({
  name: type,
  data: JSON.stringify({ type, ...body }),
  deltas,
});

const message = (answer: Answer, content: readonly Block[], stopReason: string | null): object => ({
  id: answer.id,
  type: "message",
  role: "assistant",
  model: answer.model,
  content,
  stop_reason: stopReason,
  stop_sequence: null,
  // At the start of a stream the output is not known yet.
  ...(answer.usage === null
    ? {}
    : { usage: { ...wireUsage(answer.usage), ...(stopReason === null ? { output_tokens: 1 } : {}) } }),
});

const wireNames = { web_search: "web_search", code_interpreter: "code_execution" } as const;

/** A call and its result are blocks of their own; the API has no file search. */
const toolBlock = ({ tool, phase, outputs }: ToolEvent, index: number): Block | null => {
  if (tool === "file_search" || phase === "progress") return null;
  const name = wireNames[tool];
  if (phase === "start") return { type: "server_tool_use", id: `srvtoolu_mock_${index}`, name, input: {} };
  return {
    type: `${name}_tool_result`,
    tool_use_id: `srvtoolu_mock_${index - 1}`,
    content: tool === "web_search" ? [] : { type: "code_execution_result", outputs: outputs ?? [] },
  };
};

const failure = ({ error }: Ending): object => ({ error: { type: error.code, message: error.message } });

const stopReason = ({ terminal, incompleteReason }: Ending): string => {
  if (terminal !== "incomplete") return "end_turn";
  if (incompleteReason === "max_output_tokens") return "max_tokens";
  return incompleteReason === "content_filter" ? "refusal" : incompleteReason;
};

// This API counts cached tokens beside the input, not in it (providers.md §6.4).
const wireUsage = (usage: Usage): object => ({
  input_tokens: Math.max(
    0,
    usage.input_tokens - usage.cache_read_input_tokens - usage.cache_write_input_tokens,
  ),
  cache_read_input_tokens: usage.cache_read_input_tokens,
  cache_creation_input_tokens: usage.cache_write_input_tokens,
  output_tokens: usage.output_tokens,
});
