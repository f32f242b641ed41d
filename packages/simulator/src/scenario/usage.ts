import type { Scenario, Usage } from "./scenario.ts";

const TOKENS_PER_MESSAGE = 50;
const OUTPUT_TOKENS = 12;

const none: Usage = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_input_tokens: 0,
  cache_write_input_tokens: 0,
  reasoning_tokens: 0,
};

/** What the answer reports; null for nothing. Unless programmed, the input grows with the history (§11.2). */
export const usageOf = ({ usage }: Scenario, inputMessages: number): Usage | null => {
  if (usage === "absent") return null;
  if (usage === "zero") return none;
  const usual = { input_tokens: TOKENS_PER_MESSAGE * inputMessages, output_tokens: OUTPUT_TOKENS };
  return { ...none, ...usual, ...usage };
};
