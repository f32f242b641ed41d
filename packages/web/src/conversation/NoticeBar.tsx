import { IconButton } from "../ui/IconButton.tsx";
import { type Notice, notices } from "./notice.ts";

interface NoticeBarProps {
  readonly notice: Notice;
  readonly onResend: () => void;
  readonly onClose: () => void;
}

export const NoticeBar = ({ notice, onResend, onClose }: NoticeBarProps) => (
  <div className={`notice notice-${notice.kind}`}>
    <p role={notice.kind === "info" ? "status" : "alert"}>{notice.text}</p>
    {notice.text === notices.uncertain && (
      <button type="button" className="button small" onClick={onResend}>
        Resend
      </button>
    )}
    <IconButton icon="close" label="Dismiss" onClick={onClose} />
  </div>
);
