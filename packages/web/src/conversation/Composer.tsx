import { type ClipboardEvent, type KeyboardEvent, type RefObject, useEffect, useRef } from "react";
import { useApp } from "../app/context.ts";
import { focusField, touches } from "../lib/focus.ts";
import { useStore } from "../lib/store.ts";
import { Icon } from "../ui/Icon.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { DraftFileChip } from "./DraftFileChip.tsx";
import type { Draft, Writing } from "./writing.ts";

interface ComposerProps {
  readonly writing: Writing;
  readonly running: boolean;
  /** The answer was asked to stop, and has not yet. */
  readonly stopping: boolean;
  readonly input: RefObject<HTMLTextAreaElement | null>;
  readonly onFiles: (files: readonly File[]) => void;
  readonly onSend: (draft: Draft) => void;
  readonly onStop: () => void;
}

/** Where a message is written; what is refused comes back into it. */
export const Composer = ({ writing, running, stopping, input, onFiles, onSend, onStop }: ComposerProps) => {
  const { spoken } = useApp();
  const { files } = writing;
  const list = useStore(files.list);
  const text = useStore(writing.text);
  const webSearch = useStore(writing.webSearch);
  const picker = useRef<HTMLInputElement>(null);
  const busy = list.some(({ state }) => state.at === "uploading" || state.at === "processing");
  const sendable = text.trim() !== "" && !running && !busy;

  useEffect(() => focusField(input.current), [input]);

  const send = (): void => {
    if (sendable) onSend(writing.take());
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    // Of an input method that is still composing, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    if (touches()) return;
    event.preventDefault();
    send();
  };

  const onPaste = (event: ClipboardEvent): void => {
    const pasted = [...event.clipboardData.files];
    if (pasted.length === 0) return;
    event.preventDefault();
    onFiles(pasted);
    spoken.set(pasted.length === 1 ? "File added." : `${pasted.length} files added.`);
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      {list.length > 0 && (
        <ul className="draft-files" aria-label="Attached files">
          {list.map((file) => (
            <DraftFileChip key={file.key} file={file} onRemove={() => files.remove(file.key)} />
          ))}
        </ul>
      )}
      <textarea
        ref={input}
        className="composer-text"
        dir="auto"
        rows={1}
        placeholder="Write a message"
        aria-label="Message"
        value={text}
        onChange={(event) => writing.text.set(event.target.value)}
        onKeyDown={onKeyDown}
        onPaste={onPaste}
      />
      <div className="composer-bar">
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          aria-label="Choose files"
          onChange={(event) => {
            onFiles([...(event.target.files ?? [])]);
            event.target.value = "";
          }}
        />
        <IconButton icon="attach" label="Attach files" onClick={() => picker.current?.click()} />
        <button
          type="button"
          className="toggle"
          aria-pressed={webSearch}
          onClick={() => writing.webSearch.update((now) => !now)}
        >
          <Icon name="web" />
          Web search
        </button>
        <span className="spacer" />
        {running ? (
          <button
            type="button"
            className="send"
            aria-label={stopping ? "Stopping the answer…" : "Stop the answer"}
            title={stopping ? "Stopping the answer…" : "Stop the answer"}
            aria-disabled={stopping}
            onClick={onStop}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            className="send"
            aria-label="Send message"
            title="Send message"
            disabled={!sendable}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
};
