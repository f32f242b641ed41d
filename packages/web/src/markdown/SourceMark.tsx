import type { Citation } from "@mini-chat/client";
import { createContext, useContext } from "react";

/** A source as it is numbered below the answer. */
export interface NumberedSource {
  readonly number: number;
  readonly citation: Citation;
}

/** The sources each marker in an answer stands for, by the marker's text. */
export type Markers = ReadonlyMap<string, readonly NumberedSource[]>;

export interface Marking {
  readonly markers: Markers;
  readonly open: (citation: Citation) => void;
}

/** Null where such a text is no marker, but what somebody wrote. */
const context = createContext<Marking | null>(null);

export const MarkingProvider = context.Provider;

/** A marker as the numbers of its sources; one of no source is not shown. */
export const SourceMark = ({ text }: { readonly text: string }) => {
  const marking = useContext(context);
  if (marking === null) return text;
  return marking.markers.get(text)?.map(({ number, citation }) => (
    <button
      key={number}
      type="button"
      className="source-mark"
      aria-label={`Source ${number}: ${citation.title || "File"}`}
      title={citation.title}
      onClick={() => marking.open(citation)}
    >
      {number}
    </button>
  ));
};
