import type { RawEvent, Usage } from "../scenario/scenario.ts";
import { type Answer, CREATED_AT, customEvent, type Ending, type Format, type WireEvent } from "./format.ts";
import { ResponsesOutput } from "./responses-output.ts";

const TEXT_DELTA = "response.output_text.delta";

/** The Responses API of OpenAI (providers.md §2). All text of an answer is one message. */
export const responsesFormat = (answer: Answer): Format => {
  let sequence = 0;
  const emit = (type: string, body: object, deltas = 0): WireEvent => {
    const data = JSON.stringify({ type, ...body, sequence_number: sequence });
    sequence += 1;
    return { name: type, data, deltas };
  };
  const output = new ResponsesOutput(answer.id.replace(/^resp_/, ""), emit);
  const response = (status: string, more: object = {}): object => ({
    response: responseObject(answer, status, output.items, more),
  });
  return {
    open: () => [
      emit("response.created", response("in_progress")),
      emit("response.in_progress", response("in_progress")),
    ],
    text: (content) => {
      const opening = output.openMessage();
      output.addText(content);
      return [...opening, textDelta(output.messageId, output.messageIndex, content, sequence++)];
    },
    reasoning: (content) => output.reasoning(content),
    tool: (event) => output.tool(event),
    custom: (event) => {
      const content = rawText(event);
      // Counts as part of the answer, although nothing announces it.
      if (content !== null) output.addLooseText(content);
      return { ...customEvent(event), deltas: content === null ? 0 : 1 };
    },
    end: (ending) => {
      const closing = output.close(ending.citations, ending.terminal);
      return [
        ...closing,
        emit(`response.${ending.terminal}`, response(ending.terminal, details(ending, answer))),
      ];
    },
    whole: (ending) => {
      output.close(ending.citations, ending.terminal);
      return responseObject(answer, ending.terminal, output.items, details(ending, answer));
    },
  };
};

// Written by hand: nearly all events of a load test are deltas.
const textDelta = (itemId: string, index: number, content: string, sequence: number): WireEvent => ({
  name: TEXT_DELTA,
  data: `{"type":"${TEXT_DELTA}","item_id":"${itemId}","output_index":${index},"content_index":0,"delta":${JSON.stringify(content)},"logprobs":[],"sequence_number":${sequence}}`,
  deltas: 1,
});

const rawText = (event: RawEvent): string | null => {
  if (event.event !== TEXT_DELTA || typeof event.data !== "object") return null;
  const { delta } = event.data;
  return typeof delta === "string" ? delta : null;
};

const responseObject = (
  { id, model }: Answer,
  status: string,
  output: readonly object[],
  more: object,
): object => ({
  id,
  object: "response",
  created_at: CREATED_AT,
  status,
  error: null,
  incomplete_details: null,
  model,
  output,
  previous_response_id: null,
  store: false,
  ...more,
});

const details = ({ terminal, error, incompleteReason }: Ending, { usage }: Answer): object => ({
  ...(terminal === "failed" ? { error } : {}),
  ...(terminal === "incomplete" ? { incomplete_details: { reason: incompleteReason } } : {}),
  ...(usage === null ? {} : { usage: wireUsage(usage) }),
});

const wireUsage = (usage: Usage): object => ({
  input_tokens: usage.input_tokens,
  input_tokens_details: { cached_tokens: usage.cache_read_input_tokens },
  output_tokens: usage.output_tokens,
  output_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
  total_tokens: usage.input_tokens + usage.output_tokens,
});
