import type { Chat } from "@mini-chat/client";
import { type FormEvent, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { Dialog } from "../ui/Dialog.tsx";

export const RenameDialog = ({ chat, onClose }: { readonly chat: Chat; readonly onClose: () => void }) => {
  const { chats } = useApp();
  const [title, setTitle] = useState(chat.title ?? "");
  const [problem, setProblem] = useState<string | null>(null);
  const save = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    try {
      await chats.rename(chat.id, title.trim());
      onClose();
    } catch (error) {
      setProblem(problemText(error));
    }
  };
  return (
    <Dialog title="Rename the chat" onClose={onClose}>
      <form onSubmit={(event) => void save(event)}>
        <label className="field">
          <span>Title</span>
          <input
            dir="auto"
            value={title}
            maxLength={255}
            onChange={(event) => setTitle(event.target.value)}
          />
        </label>
        {problem !== null && (
          <p className="problem" role="alert">
            {problem}
          </p>
        )}
        <div className="dialog-actions">
          <button type="button" className="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={title.trim() === ""}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
};
