import { useEffect, useMemo, useRef, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { goTo } from "../lib/route.ts";
import { createStore, useStore } from "../lib/store.ts";
import { ModelMenu } from "../models/ModelMenu.tsx";
import { Icon } from "../ui/Icon.tsx";
import { createDraftFiles } from "./attachments.ts";
import { Composer } from "./Composer.tsx";
import type { Draft } from "./conversation.ts";
import { DropZone } from "./DropZone.tsx";
import { NoticeBar } from "./NoticeBar.tsx";

const titleLength = 60;

const titleOf = (content: string): string => {
  const line = content.trim().split("\n")[0]?.trim() ?? "";
  const letters = [...line];
  return letters.length > titleLength
    ? `${letters
        .slice(0, titleLength - 1)
        .join("")
        .trimEnd()}…`
    : line;
};

/** A chat that does not exist yet: it is created with its first message, or its first file. */
export const NewChat = () => {
  const { client, chats, conversations, models, settings } = useApp();
  const offered = useStore(models.list);
  const files = useMemo(() => createDraftFiles(client), [client]);
  const input = useRef<HTMLTextAreaElement>(null);
  const created = useRef<Promise<string> | null>(null);
  const [model, setModel] = useState<string | null>(null);
  const [temporary, setTemporary] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const chosen = model ?? offered?.[0]?.model_id ?? null;

  useEffect(() => {
    if (offered === null) models.load().catch((error: unknown) => setProblem(problemText(error)));
  }, [offered, models]);

  const ensureChat = (title: string | undefined): Promise<string> => {
    const making =
      created.current ??
      chats
        .create({
          ...(model === null ? {} : { model }),
          ...(temporary ? { is_temporary: true } : {}),
          ...(title === undefined ? {} : { title }),
        })
        .then(({ id }) => id);
    created.current = making;
    making.catch(() => {
      created.current = null;
    });
    return making;
  };

  const returned = useMemo(() => createStore<Draft | null>(null), []);
  const send = async (draft: Draft): Promise<void> => {
    setProblem(null);
    try {
      const title = titleOf(draft.content);
      const early = created.current !== null;
      const chatId = await ensureChat(title);
      if (early) chats.rename(chatId, title).catch(() => {});
      void conversations.of(chatId).send(draft);
      goTo({ at: "chat", chatId });
    } catch (error) {
      setProblem(problemText(error));
      returned.set(draft);
    }
  };

  const addFiles = (added: readonly File[]): void => files.add(added, ensureChat(undefined));

  return (
    <DropZone className="chat" onFiles={addFiles}>
      <div className="messages-frame empty welcome">
        <h1>{settings.title}</h1>
        <p className="muted">What would you like to know?</p>
        <div className="choices">
          <ModelMenu models={offered} chosen={chosen} onChoose={setModel} />
          <button
            type="button"
            className="toggle"
            aria-pressed={temporary}
            onClick={() => setTemporary((now) => !now)}
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
            onClose={() => setProblem(null)}
          />
        )}
        <Composer
          files={files}
          input={input}
          returned={returned}
          running={false}
          onFiles={addFiles}
          onSend={(draft) => void send(draft)}
          onStop={() => {}}
        />
      </div>
    </DropZone>
  );
};
