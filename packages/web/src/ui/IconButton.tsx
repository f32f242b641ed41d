import type { ComponentProps } from "react";
import { Icon, type IconName } from "./Icon.tsx";

interface IconButtonProps extends Omit<ComponentProps<"button">, "children"> {
  readonly icon: IconName;
  readonly label: string;
}

export const IconButton = ({ icon, label, className = "", ...rest }: IconButtonProps) => (
  <button type="button" aria-label={label} title={label} {...rest} className={`icon-button ${className}`}>
    <Icon name={icon} />
  </button>
);
