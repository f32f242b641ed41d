import type { Model } from "@mini-chat/client";
import { Icon } from "../ui/Icon.tsx";
import { Menu, MenuChoice } from "../ui/Menu.tsx";

interface ModelMenuProps {
  readonly models: readonly Model[] | null;
  readonly chosen: string | null;
  readonly onChoose: (modelId: string) => void;
}

const noteOf = ({ tier, multiplier_display: multiplier, description }: Model): string =>
  [tier === "premium" ? "Premium" : "", multiplier, description ?? ""]
    .filter((part) => part !== "")
    .join(" · ");

export const ModelMenu = ({ models, chosen, onChoose }: ModelMenuProps) => {
  if (models === null) return <span className="toggle placeholder">Models…</span>;
  const name = models.find(({ model_id }) => model_id === chosen)?.display_name ?? "Model";
  const choices = models.map((model) => ({
    value: model.model_id,
    name: model.display_name,
    note: noteOf(model),
  }));
  return (
    <Menu
      align="start"
      trigger={
        <button type="button" className="toggle" aria-label={`Model: ${name}`}>
          {name}
          <Icon name="chevron" />
        </button>
      }
    >
      <MenuChoice label="Model" value={chosen ?? ""} choices={choices} onChange={onChoose} />
    </Menu>
  );
};
