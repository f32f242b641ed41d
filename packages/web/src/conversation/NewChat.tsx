import { useEffect, useRef, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { useStore } from "../lib/store.ts";
import { ModelMenu } from "../models/ModelMenu.tsx";
import { Icon } from "../ui/Icon.tsx";
import { Composer } from "./Composer.tsx";
import { DropZone } from "./DropZone.tsx";
import { NoticeBar } from "./NoticeBar.tsx";

/** Where a chat is begun. */
export const NewChat = () => {
  const { newChats, models, settings } = useApp();
  const [chat] = useState(newChats.open);
  const offered = useStore(models.list);
  const model = useStore(chat.model);
  const temporary = useStore(chat.temporary);
  const creating = useStore(chat.creating);
  const problem = useStore(chat.problem);
  const input = useRef<HTMLTextAreaElement>(null);
  const addFiles = chat.writing.files.add;

  useEffect(() => {
    if (offered === null) models.load().catch((error: unknown) => chat.problem.set(problemText(error)));
  }, [offered, models, chat]);

  return (
    <DropZone className="chat" onFiles={addFiles}>
      <div className="messages-frame empty welcome">
        <h1>{settings.title}</h1>
        <p className="muted">What would you like to know?</p>
        <div className="choices">
          <ModelMenu models={offered} chosen={model} disabled={creating} onChoose={chat.model.set} />
          <button
            type="button"
            className="toggle"
            aria-pressed={temporary}
            disabled={creating}
            onClick={() => chat.temporary.update((now) => !now)}
          >
            <Icon name="temporary" />
            Temporary chat
          </button>
        </div>
        <p className="muted small">
          {temporary ? "This chat will be deleted by itself after a day." : "\u00a0"}
        </p>
      </div>
      <div className="chat-bottom">
        {problem !== null && (
          <NoticeBar
            notice={{ kind: "error", text: problem }}
            onResend={() => {}}
            onClose={() => chat.problem.set(null)}
          />
        )}
        <Composer
          writing={chat.writing}
          input={input}
          running={false}
          stopping={false}
          onFiles={addFiles}
          onSend={(draft) => void chat.send(draft)}
          onStop={() => {}}
        />
      </div>
    </DropZone>
  );
};
