import { useEffect, useMemo, useRef, useState } from "react";
import { useApp } from "../app/context.ts";
import { titleOf } from "../chats/name.ts";
import { problemText } from "../lib/problem.ts";
import { goTo } from "../lib/route.ts";
import { useStore } from "../lib/store.ts";
import { ModelMenu } from "../models/ModelMenu.tsx";
import { Icon } from "../ui/Icon.tsx";
import { Composer } from "./Composer.tsx";
import { DropZone } from "./DropZone.tsx";
import { NoticeBar } from "./NoticeBar.tsx";
import { createWriting, type Draft } from "./writing.ts";

const noChat = (): Promise<string> => Promise.reject(new Error("a new chat has no files"));

/** A chat that does not exist yet: it is created with its first message, or its first file. */
export const NewChat = () => {
  const { client, chats, conversations, models, settings } = useApp();
  const offered = useStore(models.list);
  const writing = useMemo(() => createWriting(client, noChat), [client]);
  const input = useRef<HTMLTextAreaElement>(null);
  const creating = useRef(false);
  const [model, setModel] = useState<string | null>(null);
  const [temporary, setTemporary] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);

  useEffect(() => {
    if (offered === null) models.load().catch((error: unknown) => setProblem(problemText(error)));
  }, [offered, models]);

  /** The chat as it was chosen, which is shown from then on; null when it was refused. */
  const create = async (title?: string): Promise<string | null> => {
    setProblem(null);
    creating.current = true;
    try {
      const chat = await chats.create({
        ...(model === null ? {} : { model }),
        ...(temporary ? { is_temporary: true } : {}),
        ...(title === undefined ? {} : { title }),
      });
      goTo({ at: "chat", chatId: chat.id });
      return chat.id;
    } catch (error) {
      setProblem(problemText(error));
      return null;
    } finally {
      creating.current = false;
    }
  };

  const send = async (draft: Draft): Promise<void> => {
    const chatId = creating.current ? null : await create(titleOf(draft.content));
    if (chatId === null) writing.giveBack(draft);
    else void conversations.of(chatId).send(draft);
  };

  const addFiles = async (added: readonly File[]): Promise<void> => {
    if (added.length === 0 || creating.current) return;
    const chatId = await create();
    if (chatId === null) return;
    const own = conversations.of(chatId).writing;
    own.text.set(writing.text.get());
    own.webSearch.set(writing.webSearch.get());
    own.files.add(added);
  };

  return (
    <DropZone className="chat" onFiles={(added) => void addFiles(added)}>
      <div className="messages-frame empty welcome">
        <h1>{settings.title}</h1>
        <p className="muted">What would you like to know?</p>
        <div className="choices">
          <ModelMenu models={offered} chosen={model} onChoose={setModel} />
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
          writing={writing}
          input={input}
          running={false}
          stopping={false}
          onFiles={(added) => void addFiles(added)}
          onSend={(draft) => void send(draft)}
          onStop={() => {}}
        />
      </div>
    </DropZone>
  );
};
