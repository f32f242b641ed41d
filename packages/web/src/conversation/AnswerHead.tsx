import { memo } from "react";
import { Icon, type IconName } from "../ui/Icon.tsx";
import type { ToolUse, TurnView } from "./turn-view.ts";

const tools: Readonly<
  Record<string, { readonly icon: IconName; readonly now: string; readonly after: string }>
> = {
  web_search: { icon: "web", now: "Searching the web…", after: "Searched the web" },
  file_search: { icon: "file", now: "Reading your files…", after: "Read your files" },
  file_load: { icon: "file", now: "Loading a file…", after: "Loaded a file" },
  code_interpreter: { icon: "edit", now: "Running code…", after: "Ran code" },
};

const ToolLine = ({ use }: { readonly use: ToolUse }) => {
  const tool = tools[use.name] ?? { icon: "more", now: "Working…", after: "Used a tool" };
  return (
    <li className={use.running ? "tool running" : "tool"}>
      <Icon name={tool.icon} />
      {use.running ? tool.now : tool.after}
    </li>
  );
};

/** What comes before the text of an answer: its heading, what the model is doing. */
export const AnswerHead = memo(({ turn: { answer } }: { readonly turn: TurnView }) => (
  <div className="answer-head">
    <h2 className="hidden">Answer</h2>
    {answer.tools.length > 0 && (
      <ul className="tools" aria-label="Tools">
        {answer.tools.map((use) => (
          <ToolLine key={use.name} use={use} />
        ))}
      </ul>
    )}
    {answer.state === "waiting" && answer.tools.every((tool) => !tool.running) && (
      <div className="dots" role="img" aria-label="Waiting for the answer">
        <span />
        <span />
        <span />
      </div>
    )}
  </div>
));
