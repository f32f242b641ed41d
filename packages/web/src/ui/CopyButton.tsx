import { useEffect, useState } from "react";
import { useApp } from "../app/context.ts";
import { Icon } from "./Icon.tsx";

/** Copies, says so, and says it aloud. */
export const CopyButton = ({ text, label }: { readonly text: () => string; readonly label: string }) => {
  const { spoken } = useApp();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2_000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text());
      setCopied(true);
      spoken.set("Copied.");
    } catch {
      spoken.set("The browser did not allow copying.");
    }
  };
  return (
    <button
      type="button"
      className="icon-button"
      aria-label={label}
      title={label}
      onClick={() => void copy()}
    >
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
};
