import type { Turn, TurnEvent, TurnResult } from "@mini-chat/client";
import { createSplitter, type Splitter } from "../markdown/blocks.ts";
import { type Answer, emptyAnswer, type ToolUse } from "./turn-view.ts";

const frameMs = 33;

/** Runs at most once per `frameMs`, together with a frame of the screen; a hidden page has no frames. */
const everyFrame = (run: () => void): { request(): void; cancel(): void } => {
  let pending = false;
  let cancelled = false;
  let last = 0;
  const fire = (): void => {
    pending = false;
    if (cancelled) return;
    last = performance.now();
    run();
  };
  return {
    request: () => {
      if (pending) return;
      pending = true;
      const wait = frameMs - (performance.now() - last);
      if (document.hidden) setTimeout(fire, 250);
      else if (wait > 4) setTimeout(() => requestAnimationFrame(fire), wait - 4);
      else requestAnimationFrame(fire);
    },
    cancel: () => {
      cancelled = true;
    },
  };
};

const usedTools = (
  tools: readonly ToolUse[],
  event: Extract<TurnEvent, { type: "tool" }>,
): readonly ToolUse[] => {
  const { name, phase } = event.data;
  const others = tools.filter((tool) => tool.name !== name);
  return [...others, { name, running: phase === "start" }];
};

const textSplitter = (text: string): Splitter => {
  const splitter = createSplitter();
  splitter.push(text);
  return splitter;
};

/** How a result of the client is shown; only an answer that is stored has the id of a message. */
const settled = (answer: Answer, result: TurnResult): Answer => {
  const base = {
    ...answer,
    // An answer that was read from the list of messages comes without its sources.
    citations: result.recovered === "stored" && result.citations.length === 0 ? null : result.citations,
    tools: answer.tools.map((tool) => ({ ...tool, running: false })),
  };
  switch (result.state) {
    case "completed":
      return {
        ...base,
        state: "done",
        messageId: result.messageId,
        done: result.done,
        model: result.done?.effective_model ?? base.model,
        recovered: result.recovered === "replayed" || result.recovered === "stored",
      };
    case "cancelled":
      return { ...base, state: "cancelled", messageId: result.messageId };
    case "failed":
      return { ...base, state: "failed", failure: result.code };
    default:
      return { ...base, state: "uncertain" };
  }
};

/**
 * Shows a turn as it comes: `show` gets the answer so far, at most once per frame however many pieces arrive, and
 * of the text only the last block is looked at again. `started`: the server has the turn. Resolves with the client's result; rejects as it does.
 */
export const followTurn = async (
  turn: Turn,
  show: (answer: Answer, requestId: string | undefined) => void,
  started: () => void,
): Promise<TurnResult> => {
  let splitter = createSplitter();
  let answer: Answer = {
    ...emptyAnswer("waiting"),
    text: () => turn.text,
    createdAt: new Date().toISOString(),
  };
  const publish = (): void => {
    answer = { ...answer, parts: splitter.parts() };
    show(answer, turn.requestId);
  };
  const frame = everyFrame(publish);
  try {
    for await (const event of turn) {
      if (event.type === "delta" && event.data.type === "text") {
        splitter.push(event.data.content);
        if (answer.state !== "streaming") answer = { ...answer, state: "streaming" };
      } else if (event.type === "replaced") splitter = textSplitter(event.data.text);
      else if (event.type === "stream_started") started();
      else if (event.type === "tool") answer = { ...answer, tools: usedTools(answer.tools, event) };
      else if (event.type === "citations") answer = { ...answer, citations: event.data.items };
      else if (event.type === "interrupted") answer = { ...answer, state: "interrupted" };
      else if (event.type === "resumed") answer = { ...answer, state: "streaming" };
      frame.request();
    }
    const result = await turn.result();
    frame.cancel();
    // Ends the last line.
    splitter.push("\n");
    answer = settled(answer, result);
    publish();
    return result;
  } finally {
    frame.cancel();
  }
};
