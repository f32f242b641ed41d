import type { AttachmentSummary } from "@mini-chat/client";
import { memo, useEffect, useRef } from "react";
import { fullTime } from "../lib/format.ts";
import { useStore } from "../lib/store.ts";
import { CopyButton } from "../ui/CopyButton.tsx";
import { Icon } from "../ui/Icon.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { EditForm } from "./EditForm.tsx";
import type { TurnActions } from "./turn-actions.ts";
import { isRunning, type TurnView } from "./turn-view.ts";

interface QuestionRowProps {
  readonly turn: TurnView;
  readonly last: boolean;
  readonly actions: TurnActions;
}

/** What the user wrote; the latest can be edited. */
export const QuestionRow = memo(({ turn, last, actions }: QuestionRowProps) => {
  const edit = useStore(actions.editing);
  const editing = edit?.key === turn.key;
  const opener = useRef<HTMLButtonElement>(null);
  const left = useRef(false);
  useEffect(() => {
    if (editing || !left.current) return;
    left.current = false;
    opener.current?.focus();
  }, [editing]);
  const { question } = turn;
  if (question === undefined) return null;
  const { content, attachments, createdAt } = question;
  if (editing) {
    return (
      <div className="question editing">
        <EditForm
          text={edit.text}
          onChange={(text) => actions.editing.set({ key: turn.key, text })}
          onCancel={() => {
            left.current = true;
            actions.editing.set(null);
          }}
          onSave={() => actions.edit(edit.text)}
        />
      </div>
    );
  }
  return (
    <div className="question">
      <h2 className="hidden">You</h2>
      <Attached attachments={attachments} />
      <div className="bubble" dir="auto" title={createdAt === undefined ? undefined : fullTime(createdAt)}>
        {content}
      </div>
      <div className="row-actions">
        <CopyButton text={() => content} label="Copy message" />
        {last && !isRunning(turn) && turn.requestId !== undefined && (
          <IconButton
            ref={opener}
            icon="edit"
            label="Edit message"
            onClick={() => actions.editing.set({ key: turn.key, text: content })}
          />
        )}
      </div>
    </div>
  );
});

const Attached = ({ attachments }: { readonly attachments: readonly AttachmentSummary[] }) =>
  attachments.length === 0 ? null : (
    <ul className="attached" aria-label="Attachments">
      {attachments.map(({ attachment_id: id, filename, img_thumbnail: picture }) => (
        <li key={id} className="attached-file">
          {picture === undefined ? (
            <Icon name="file" />
          ) : (
            <img
              src={`data:${picture.content_type};base64,${picture.data_base64}`}
              width={picture.width}
              height={picture.height}
              alt=""
            />
          )}
          <span dir="auto">{filename}</span>
        </li>
      ))}
    </ul>
  );
