import type { Citation } from "@mini-chat/client";
import { useEffect, useMemo, useRef, useState } from "react";
import { useApp } from "../app/context.ts";
import { focusField } from "../lib/focus.ts";
import { problemText } from "../lib/problem.ts";
import { useStore } from "../lib/store.ts";
import { ConfirmDialog } from "../ui/ConfirmDialog.tsx";
import { Composer } from "./Composer.tsx";
import type { Conversation } from "./conversation.ts";
import { DropZone } from "./DropZone.tsx";
import { MessageList } from "./MessageList.tsx";
import { NoticeBar } from "./NoticeBar.tsx";
import { SourceDialog } from "./SourceDialog.tsx";
import type { TurnActions } from "./turn-actions.ts";
import { isRunning } from "./turn-view.ts";
import type { Draft } from "./writing.ts";

/** One chat: its messages, and where the next one is written. */
export const ChatView = ({ chatId }: { readonly chatId: string }) => {
  const { chats, conversations } = useApp();
  const conversation = conversations.of(chatId);
  const state = useStore(conversation.state);
  const input = useRef<HTMLTextAreaElement>(null);
  const [source, setSource] = useState<Citation | null>(null);
  const [deleting, setDeleting] = useState(false);

  useEffect(() => conversation.watch(), [conversation]);

  useEffect(() => {
    if (!deleting) return;
    return () => {
      // After the dialog has given the focus back, to a button that may be gone with its message.
      setTimeout(() => document.activeElement === document.body && focusField(input.current));
    };
  }, [deleting]);

  const actions = useMemo<TurnActions>(() => {
    // The button that was pressed goes while the answer comes.
    const goOn = (_begun: Promise<void>): void => focusField(input.current);
    return {
      editing: conversation.editing,
      edit: (content) => goOn(conversation.edit(content)),
      retry: () => goOn(conversation.retry()),
      resend: () => goOn(conversation.resend()),
      remove: () => setDeleting(true),
      react: (messageId, reaction) => void conversation.react(messageId, reaction),
      openSource: setSource,
    };
  }, [conversation]);
  const latest = state.turns.at(-1);
  const addFiles = conversation.writing.files.add;

  const send = (draft: Draft): void => {
    if (state.status === "ready" && state.turns.length === 0) chats.entitle(chatId, draft.content);
    void conversation.send(draft);
  };

  return (
    <DropZone className="chat" onFiles={addFiles}>
      <Messages conversation={conversation} actions={actions} />
      <div className="chat-bottom">
        {state.notice !== null && (
          <NoticeBar notice={state.notice} onResend={actions.resend} onClose={conversation.dismiss} />
        )}
        <Composer
          writing={conversation.writing}
          input={input}
          running={latest !== undefined && isRunning(latest)}
          stopping={latest?.stopped === true}
          onFiles={addFiles}
          onSend={send}
          onStop={conversation.stop}
        />
      </div>
      {source !== null && <SourceDialog citation={source} onClose={() => setSource(null)} />}
      {deleting && (
        <ConfirmDialog
          title="Delete the last message?"
          confirm="Delete"
          danger
          onConfirm={conversation.removeLast}
          onClose={() => setDeleting(false)}
        >
          <p>Your message and its answer are removed from this chat.</p>
        </ConfirmDialog>
      )}
    </DropZone>
  );
};

const Messages = ({
  conversation,
  actions,
}: {
  readonly conversation: Conversation;
  readonly actions: TurnActions;
}) => {
  const { status, problem, turns, older } = useStore(conversation.state);
  if (status === "loading" && turns.length === 0) {
    return (
      <div className="messages-frame">
        <div className="skeleton" role="status" aria-label="Loading the chat">
          <span />
          <span />
          <span />
        </div>
      </div>
    );
  }
  if (status === "failed" && turns.length === 0) {
    return (
      <div className="messages-frame empty" role="alert">
        <h2>This chat could not be opened</h2>
        <p className="muted">{problemText(problem)}</p>
        <button type="button" className="button" onClick={() => void conversation.load()}>
          Try again
        </button>
      </div>
    );
  }
  if (turns.length === 0) {
    return (
      <div className="messages-frame empty">
        <h2>Nothing here yet</h2>
        <p className="muted">Write the first message below.</p>
      </div>
    );
  }
  return (
    <MessageList
      turns={turns}
      hasOlder={older !== null}
      loadOlder={conversation.loadOlder}
      actions={actions}
    />
  );
};
