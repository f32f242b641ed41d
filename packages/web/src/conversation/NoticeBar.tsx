import { IconButton } from "../ui/IconButton.tsx";
import type { Notice } from "./notice.ts";

interface NoticeBarProps {
  readonly notice: Notice;
  readonly onResend: () => void;
  readonly onClose: () => void;
}

export const NoticeBar = ({ notice, onResend, onClose }: NoticeBarProps) => (
  <div className={`notice notice-${notice.kind}`}>
    <p role={notice.kind === "info" ? "status" : "alert"}>{notice.text}</p>
    {notice.resend === true && (
      <button type="button" className="button small" onClick={onResend}>
        Resend
      </button>
    )}
    <IconButton icon="close" label="Dismiss" onClick={onClose} />
  </div>
);
