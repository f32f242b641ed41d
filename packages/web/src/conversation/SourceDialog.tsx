import type { Citation } from "@mini-chat/client";
import { safeUrl, siteOf } from "../markdown/safe-url.ts";
import { Dialog } from "../ui/Dialog.tsx";

const fileNote = (position: string | undefined): string =>
  position === undefined ? "From your file" : `From your file · ${position}`;

/** What an answer relies on: the passage of a file, or of a page of the web with a way there. */
export const SourceDialog = ({
  citation,
  onClose,
}: {
  readonly citation: Citation;
  readonly onClose: () => void;
}) => {
  const { source, title, snippet, url, position } = citation;
  const href = url === undefined ? "" : safeUrl(url);
  return (
    <Dialog title={title || "Source"} onClose={onClose}>
      <p className="muted">
        {source === "web" ? `Web · ${href === "" ? "no address" : siteOf(href)}` : fileNote(position)}
      </p>
      {snippet === "" ? (
        <p className="muted">No passage was quoted.</p>
      ) : (
        <blockquote className="excerpt" dir="auto">
          {snippet}
        </blockquote>
      )}
      {href !== "" && (
        <>
          <p className="address" dir="ltr">
            {href}
          </p>
          <div className="dialog-actions">
            <a className="button primary" href={href} target="_blank" rel="noopener noreferrer nofollow">
              Open {siteOf(href)}
            </a>
          </div>
        </>
      )}
    </Dialog>
  );
};
