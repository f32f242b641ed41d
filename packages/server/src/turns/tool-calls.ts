import type { ToolCounts } from "./turn.ts";

const none: ToolCounts = { webSearch: 0, codeInterpreter: 0, fileSearch: 0 };

const add = (one: ToolCounts, other: ToolCounts): ToolCounts => ({
  webSearch: one.webSearch + other.webSearch,
  codeInterpreter: one.codeInterpreter + other.codeInterpreter,
  fileSearch: one.fileSearch + other.fileSearch,
});

/**
 * Persists finished tool calls as they happen, best effort (turns.md §8), one write at a time per turn:
 * what finishes meanwhile joins the next one, so a provider that reports thousands takes no connection
 * from others. What could not be written is tried again with the next call.
 */
export const createToolCallWriter = (
  write: (calls: ToolCounts) => Promise<void>,
  onError: (error: unknown) => void,
): ((calls: ToolCounts) => void) => {
  let waiting: ToolCounts | null = null;
  let writing = false;
  const drain = async (): Promise<void> => {
    writing = true;
    while (waiting !== null) {
      const calls: ToolCounts = waiting;
      waiting = null;
      try {
        await write(calls);
      } catch (error) {
        waiting = add(calls, waiting ?? none);
        onError(error);
        break;
      }
    }
    writing = false;
  };
  return (calls) => {
    waiting = add(waiting ?? none, calls);
    if (!writing) void drain();
  };
};
