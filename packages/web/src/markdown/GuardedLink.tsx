import { type MouseEvent, type ReactNode, useState } from "react";
import { ConfirmDialog } from "../ui/ConfirmDialog.tsx";
import { siteOf } from "./safe-url.ts";

const textOf = (node: ReactNode): string =>
  typeof node === "string" ? node : Array.isArray(node) ? node.map(textOf).join("") : "";

/** A link that says where it leads: an answer may name one site and point to another. */
export const GuardedLink = ({
  href,
  children,
}: {
  readonly href: string | undefined;
  readonly children: ReactNode;
}) => {
  const [asked, setAsked] = useState(false);
  if (href === undefined || href === "") return <span>{children}</span>;
  const told = textOf(children).replace(/\/$/, "");
  const plain = told === href.replace(/\/$/, "") || `mailto:${told}` === href;
  const open = (): void => {
    window.open(href, "_blank", "noopener,noreferrer");
  };
  const guard = (event: MouseEvent): void => {
    if (plain) return;
    event.preventDefault();
    setAsked(true);
  };
  return (
    <>
      <a href={href} target="_blank" rel="noopener noreferrer nofollow" title={href} onClick={guard}>
        {children}
      </a>
      {asked && (
        <ConfirmDialog
          title={`Open ${siteOf(href)}?`}
          confirm="Open link"
          onConfirm={open}
          onClose={() => setAsked(false)}
        >
          <p>This link from the answer leads to another site:</p>
          <p className="address" dir="ltr">
            {href}
          </p>
        </ConfirmDialog>
      )}
    </>
  );
};
