import type { Usage } from "../scenario/scenario.ts";
import { type Answer, CREATED_AT, customEvent, type Ending, type Format, type WireEvent } from "./format.ts";

/** The Chat Completions API of OpenAI (providers.md §3): text only, it has no tools of the provider. */
export const chatFormat = (answer: Answer): Format => {
  const text: string[] = [];
  const head = `{"id":"${answer.id}","object":"chat.completion.chunk","created":${CREATED_AT},"model":${JSON.stringify(answer.model)}`;
  const chunk = (rest: string, deltas = 0): WireEvent => ({ name: "", data: `${head},${rest}}`, deltas });
  const choice = (delta: string, finish: string): string =>
    `"choices":[{"index":0,"delta":${delta},"logprobs":null,"finish_reason":${finish}}],"usage":null`;
  return {
    open: () => [chunk(choice('{"role":"assistant","content":""}', "null"))],
    text: (content) => {
      text.push(content);
      return [chunk(choice(`{"content":${JSON.stringify(content)}}`, "null"), 1)];
    },
    reasoning: () => [],
    tool: () => [],
    custom: customEvent,
    end: (ending) => {
      if (ending.terminal === "failed")
        return [{ name: "", data: JSON.stringify(failure(ending)), deltas: 0 }];
      const finish = chunk(choice("{}", JSON.stringify(finishReason(ending))));
      const usage =
        answer.usage !== null && answer.usageWanted
          ? [chunk(`"choices":[],"usage":${JSON.stringify(wireUsage(answer.usage))}`)]
          : [];
      return [finish, ...usage, { name: "", data: "[DONE]", deltas: 0 }];
    },
    whole: (ending) =>
      ending.terminal === "failed"
        ? failure(ending)
        : {
            id: answer.id,
            object: "chat.completion",
            created: CREATED_AT,
            model: answer.model,
            choices: [
              {
                index: 0,
                message: { role: "assistant", content: text.join(""), refusal: null },
                logprobs: null,
                finish_reason: finishReason(ending),
              },
            ],
            ...(answer.usage === null ? {} : { usage: wireUsage(answer.usage) }),
          },
  };
};

const failure = ({ error }: Ending): object => ({ error: { ...error, type: "server_error", param: null } });

const finishReason = ({ terminal, incompleteReason }: Ending): string => {
  if (terminal !== "incomplete") return "stop";
  return incompleteReason === "max_output_tokens" ? "length" : incompleteReason;
};

const wireUsage = (usage: Usage): object => ({
  prompt_tokens: usage.input_tokens,
  completion_tokens: usage.output_tokens,
  total_tokens: usage.input_tokens + usage.output_tokens,
  prompt_tokens_details: { cached_tokens: usage.cache_read_input_tokens },
  completion_tokens_details: { reasoning_tokens: usage.reasoning_tokens },
});
