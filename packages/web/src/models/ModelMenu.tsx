import type { Model } from "@mini-chat/client";
import { Icon } from "../ui/Icon.tsx";
import { Menu, MenuChoice } from "../ui/Menu.tsx";

interface ModelMenuProps {
  readonly models: readonly Model[] | null;
  /** Null for the one that the server takes when nobody chose. */
  readonly chosen: string | null;
  readonly disabled: boolean;
  readonly onChoose: (modelId: string | null) => void;
}

const noteOf = ({ tier, multiplier_display: multiplier, description }: Model): string =>
  [tier === "premium" ? "Premium" : "", multiplier, description ?? ""]
    .filter((part) => part !== "")
    .join(" · ");

const defaultName = "Default model";

export const ModelMenu = ({ models, chosen, disabled, onChoose }: ModelMenuProps) => {
  if (models === null) return <span className="toggle placeholder">Models…</span>;
  // Of one model it is known which one the server takes.
  const shown = chosen ?? (models.length === 1 ? models[0]?.model_id : undefined) ?? "";
  const name = models.find(({ model_id }) => model_id === shown)?.display_name ?? defaultName;
  const choices = models.map((model) => ({
    value: model.model_id,
    name: model.display_name,
    note: noteOf(model),
  }));
  const preset = { value: "", name: defaultName, note: "The one this server takes for new chats" };
  const trigger = (
    <button type="button" className="toggle" aria-label={`Model: ${name}`} disabled={disabled}>
      {name}
      <Icon name="chevron" />
    </button>
  );
  if (disabled) return trigger;
  return (
    <Menu align="start" trigger={trigger}>
      <MenuChoice
        label="Model"
        value={shown}
        choices={models.length === 1 ? choices : [preset, ...choices]}
        onChange={(value) => onChoose(value === "" ? null : value)}
      />
    </Menu>
  );
};
