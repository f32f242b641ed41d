import { type ReactNode, useState } from "react";
import { problemText } from "../lib/problem.ts";
import { Dialog } from "./Dialog.tsx";

interface ConfirmDialogProps {
  readonly title: string;
  readonly confirm: string;
  readonly danger?: boolean;
  readonly children: ReactNode;
  readonly onConfirm: () => void | Promise<void>;
  readonly onClose: () => void;
}

/** Asks before something is done, and stays with the reason when that fails. */
export const ConfirmDialog = ({
  title,
  confirm,
  danger = false,
  children,
  onConfirm,
  onClose,
}: ConfirmDialogProps) => {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const run = async (): Promise<void> => {
    setBusy(true);
    try {
      await onConfirm();
      onClose();
    } catch (error) {
      setProblem(problemText(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      {children}
      {problem !== null && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onClose}>
          Cancel
        </button>
        <button
          type="button"
          className={`button ${danger ? "danger" : "primary"}`}
          disabled={busy}
          onClick={() => void run()}
        >
          {confirm}
        </button>
      </div>
    </Dialog>
  );
};
