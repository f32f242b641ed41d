import * as Radix from "@radix-ui/react-dropdown-menu";
import type { ReactNode } from "react";
import { Icon, type IconName } from "./Icon.tsx";

interface MenuProps {
  readonly trigger: ReactNode;
  readonly align?: "start" | "end";
  readonly children: ReactNode;
}

/** A menu below the element that opens it; the page behind stays usable. */
export const Menu = ({ trigger, align = "end", children }: MenuProps) => (
  <Radix.Root modal={false}>
    <Radix.Trigger asChild>{trigger}</Radix.Trigger>
    <Radix.Portal>
      <Radix.Content className="menu" align={align} sideOffset={6} collisionPadding={8}>
        {children}
      </Radix.Content>
    </Radix.Portal>
  </Radix.Root>
);

interface MenuItemProps {
  readonly icon: IconName;
  readonly danger?: boolean;
  readonly onSelect: () => void;
  readonly children: ReactNode;
}

/** What is chosen happens after the menu has given the focus back: a dialog then returns it to the same place. */
export const MenuItem = ({ icon, danger = false, onSelect, children }: MenuItemProps) => (
  <Radix.Item className={`menu-item${danger ? " danger" : ""}`} onSelect={() => setTimeout(onSelect)}>
    <Icon name={icon} />
    {children}
  </Radix.Item>
);

interface ChoiceProps<T extends string> {
  readonly label: string;
  readonly value: T;
  readonly choices: readonly { readonly value: T; readonly name: string; readonly note: string }[];
  readonly onChange: (value: T) => void;
}

/** One of several, as a part of a menu. */
export const MenuChoice = <T extends string>({ label, value, choices, onChange }: ChoiceProps<T>) => (
  <Radix.RadioGroup value={value} onValueChange={(next) => onChange(next as T)} aria-label={label}>
    {choices.map((choice) => (
      <Radix.RadioItem key={choice.value} value={choice.value} className="menu-item menu-choice">
        <span className="menu-mark">
          <Radix.ItemIndicator>
            <Icon name="check" />
          </Radix.ItemIndicator>
        </span>
        <span>
          <span className="menu-name">{choice.name}</span>
          {choice.note !== "" && <span className="menu-note">{choice.note}</span>}
        </span>
      </Radix.RadioItem>
    ))}
  </Radix.RadioGroup>
);
