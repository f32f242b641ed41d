import * as Radix from "@radix-ui/react-dialog";
import { type ReactNode, useRef } from "react";
import { IconButton } from "./IconButton.tsx";

interface DialogProps {
  readonly title: string;
  readonly children: ReactNode;
  /** Undefined: it cannot be closed by hand. */
  readonly onClose?: (() => void) | undefined;
}

/** A dialog that is there as long as it is rendered; focus goes in, and back when it closes. */
export const Dialog = ({ title, children, onClose }: DialogProps) => {
  const content = useRef<HTMLDivElement>(null);
  // Into the field that is asked for, rather than onto the button that closes.
  const focusField = (event: Event): void => {
    const field = content.current?.querySelector<HTMLElement>("input");
    if (field === null || field === undefined) return;
    event.preventDefault();
    field.focus();
  };
  return (
    <Radix.Root open onOpenChange={(open) => !open && onClose?.()}>
      <Radix.Portal>
        <Radix.Overlay className="overlay" />
        <Radix.Content
          className="dialog"
          aria-describedby={undefined}
          ref={content}
          onOpenAutoFocus={focusField}
        >
          <header className="dialog-head">
            <Radix.Title className="dialog-title">{title}</Radix.Title>
            {onClose !== undefined && <IconButton icon="close" label="Close" onClick={onClose} />}
          </header>
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
};
