import { bytes } from "../lib/format.ts";
import { Icon } from "../ui/Icon.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import type { DraftFile } from "./attachments.ts";

const noteOf = ({ state, size }: DraftFile): string => {
  switch (state.at) {
    case "uploading":
      return `${Math.round(state.share * 100)} %`;
    case "processing":
      return "Processing…";
    case "failed":
      return state.reason;
    default:
      return size === 0 ? "Ready" : bytes(size);
  }
};

/** A file that will go with the next message, and how far it is. */
export const DraftFileChip = ({
  file,
  onRemove,
}: {
  readonly file: DraftFile;
  readonly onRemove: () => void;
}) => {
  const { name, preview, state } = file;
  return (
    <li className={`file-chip${state.at === "failed" ? " failed" : ""}`}>
      {preview === undefined ? (
        <span className="file-mark">
          <Icon name="file" />
        </span>
      ) : (
        <img className="file-mark" src={preview} alt="" />
      )}
      <span className="file-text">
        <span className="file-name" dir="auto">
          {name}
        </span>
        <span className="file-note" role={state.at === "failed" ? "alert" : undefined}>
          {noteOf(file)}
        </span>
        {state.at === "uploading" && (
          <progress value={state.share} max={1} aria-label={`Uploading ${name}`} />
        )}
      </span>
      <IconButton icon="close" label={`Remove ${name}`} onClick={onRemove} />
    </li>
  );
};
