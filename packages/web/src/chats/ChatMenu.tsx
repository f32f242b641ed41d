import type { Chat } from "@mini-chat/client";
import { useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { goTo } from "../lib/route.ts";
import { ConfirmDialog } from "../ui/ConfirmDialog.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { Menu, MenuItem } from "../ui/Menu.tsx";
import { saveExport } from "./export.ts";
import { nameOf } from "./name.ts";
import { RenameDialog } from "./RenameDialog.tsx";

/** What can be done with a chat as a whole. */
export const ChatMenu = ({ chat }: { readonly chat: Chat }) => {
  const { client, chats, conversations, spoken } = useApp();
  const [open, setOpen] = useState<"rename" | "delete" | "problem" | null>(null);
  const [problem, setProblem] = useState("");
  const close = (): void => setOpen(null);
  const name = nameOf(chat);
  const save = (format: "markdown" | "json"): void => {
    saveExport(client, chat, format).then(
      () => spoken.set("The chat was saved."),
      (error: unknown) => {
        setProblem(problemText(error));
        setOpen("problem");
      },
    );
  };
  const remove = async (): Promise<void> => {
    await chats.remove(chat.id);
    conversations.forget(chat.id);
    if (location.hash.includes(chat.id)) goTo({ at: "new" }, { replace: true });
  };
  return (
    <>
      <Menu trigger={<IconButton className="chat-menu" icon="more" label={`Actions for ${name}`} />}>
        <MenuItem icon="edit" onSelect={() => setOpen("rename")}>
          Rename
        </MenuItem>
        <MenuItem icon="export" onSelect={() => save("markdown")}>
          Export as Markdown
        </MenuItem>
        <MenuItem icon="export" onSelect={() => save("json")}>
          Export as JSON
        </MenuItem>
        <MenuItem icon="delete" danger onSelect={() => setOpen("delete")}>
          Delete
        </MenuItem>
      </Menu>
      {open === "rename" && <RenameDialog chat={chat} onClose={close} />}
      {open === "delete" && (
        <ConfirmDialog title="Delete this chat?" confirm="Delete" danger onConfirm={remove} onClose={close}>
          <p>
            “<bdi>{name}</bdi>” and everything in it will be gone for good.
          </p>
        </ConfirmDialog>
      )}
      {open === "problem" && (
        <ConfirmDialog title="The chat was not saved" confirm="OK" onConfirm={close} onClose={close}>
          <p>{problem}</p>
        </ConfirmDialog>
      )}
    </>
  );
};
