import { memo } from "react";
import { useApp } from "../app/context.ts";
import { fullTime, resetTime } from "../lib/format.ts";
import { siteOf } from "../markdown/safe-url.ts";
import { CopyButton } from "../ui/CopyButton.tsx";
import { Icon } from "../ui/Icon.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { copyOf } from "./answer-markers.ts";
import { downgradeText, failureText } from "./notice.ts";
import type { TurnActions } from "./turn-actions.ts";
import { type Answer, isRunning, type TurnView } from "./turn-view.ts";

interface FootProps {
  readonly turn: TurnView;
  readonly last: boolean;
  readonly actions: TurnActions;
}

/** What comes after the text of an answer: sources, how it ended, what can be done with it. */
export const AnswerFoot = memo(({ turn, last, actions }: FootProps) => {
  const { answer } = turn;
  const running = isRunning(turn);
  return (
    <div className="answer-foot">
      <Sources answer={answer} onOpen={actions.openSource} />
      <Ending turn={turn} />
      {!running && (
        <div className={last ? "row-actions shown" : "row-actions"}>
          {answer.parts.length > 0 && <CopyButton text={() => copyOf(answer)} label="Copy answer" />}
          <Reactions answer={answer} onReact={actions.react} />
          {last && <LastActions turn={turn} actions={actions} />}
          <AnswerNote answer={answer} />
        </div>
      )}
    </div>
  );
});

const Sources = ({
  answer,
  onOpen,
}: {
  readonly answer: Answer;
  readonly onOpen: TurnActions["openSource"];
}) =>
  answer.citations === null || answer.citations.length === 0 ? null : (
    <ol className="sources" aria-label="Sources">
      {answer.citations.map((citation, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the list comes once, as a whole
        <li key={at}>
          <button type="button" className="source" onClick={() => onOpen(citation)}>
            <span className="source-number">{at + 1}</span>
            <Icon name={citation.source === "web" ? "web" : "file"} />
            <span className="source-title" dir="auto">
              {citation.title || (citation.url === undefined ? "File" : siteOf(citation.url))}
            </span>
          </button>
        </li>
      ))}
    </ol>
  );

const Ending = ({ turn: { answer, stopped } }: { readonly turn: TurnView }) => {
  const { models } = useApp();
  const { state, failure, done } = answer;
  const warning = done?.quota_warnings?.find((one) => one.warning || one.exhausted);
  return (
    <>
      {state === "interrupted" && (
        <p className="ending" role="status">
          Connection lost. Looking for the rest of the answer…
        </p>
      )}
      {state === "failed" && <p className="ending problem">{failureText(failure)}</p>}
      {state === "cancelled" && (
        <p className="ending">{stopped === true ? "You stopped this answer." : "The answer was cut off."}</p>
      )}
      {state === "none" && <p className="ending">This message has no answer.</p>}
      {done?.quota_decision === "downgrade" && (
        <p className="ending notice-line" role="note">
          {downgradeText(models.nameOf(done.effective_model), done.downgrade_reason)}
        </p>
      )}
      {warning !== undefined && (
        <p className="ending notice-line" role="note">
          {warning.exhausted
            ? `Your ${warning.period} ${warning.tier === "premium" ? "premium " : ""}quota is used up`
            : `${warning.remaining_percentage} % of your ${warning.period} ${warning.tier === "premium" ? "premium " : ""}quota is left`}
          {warning.next_reset === undefined ? "." : `; it starts afresh ${resetTime(warning.next_reset)}.`}
        </p>
      )}
    </>
  );
};

const Reactions = ({
  answer,
  onReact,
}: {
  readonly answer: Answer;
  readonly onReact: TurnActions["react"];
}) => {
  const { messageId, reaction } = answer;
  if (messageId === undefined) return null;
  return (["like", "dislike"] as const).map((one) => (
    <IconButton
      key={one}
      icon={one}
      label={one === "like" ? "Good answer" : "Bad answer"}
      aria-pressed={reaction === one}
      onClick={() => onReact(messageId, reaction === one ? null : one)}
    />
  ));
};

const LastActions = ({ turn, actions }: Pick<FootProps, "turn" | "actions">) =>
  turn.answer.state === "uncertain" ? (
    <button type="button" className="button small" onClick={actions.resend}>
      <Icon name="retry" />
      Resend
    </button>
  ) : (
    <>
      <IconButton icon="retry" label="Answer again" onClick={actions.retry} />
      <IconButton icon="delete" label="Delete message and answer" onClick={actions.remove} />
    </>
  );

const AnswerNote = ({ answer }: { readonly answer: Answer }) => {
  const { models } = useApp();
  if (answer.model === undefined || answer.createdAt === undefined) return null;
  return (
    <span className="answer-note">
      {models.nameOf(answer.model)} · <time dateTime={answer.createdAt}>{fullTime(answer.createdAt)}</time>
    </span>
  );
};
