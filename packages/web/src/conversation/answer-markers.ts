import type { Citation } from "@mini-chat/client";
import type { Markers, NumberedSource } from "../markdown/SourceMark.tsx";
import { type Answer, isRunningState } from "./turn-view.ts";

const none: Markers = new Map();
const known = new WeakMap<readonly Citation[], Markers | null>();

const find = (citations: readonly Citation[], text: () => string): Markers | null => {
  const found = new Map<string, NumberedSource[]>();
  // Places are counted in code points.
  let points: readonly string[] | undefined;
  citations.forEach((citation, at) => {
    const { span } = citation;
    if (citation.source !== "file" || span === undefined) return;
    points ??= [...text()];
    const marker = points.slice(span.start, span.end).join("");
    if (!marker.startsWith("[cite:")) return;
    const before = found.get(marker) ?? [];
    const named = before.some(
      ({ citation: one }) =>
        one.attachment_id === citation.attachment_id && one.position === citation.position,
    );
    if (!named) found.set(marker, [...before, { number: at + 1, citation }]);
  });
  return found.size === 0 ? null : found;
};

/**
 * What the markers in an answer stand for; null when it has none. What they mean is known at its end: until then
 * those of an answer from files are left out, and so are those of an answer that was cut off, or whose sources are
 * not known.
 */
export const markersOf = ({ state, tools, citations, text }: Answer): Markers | null => {
  if (isRunningState(state)) return tools.some(({ name }) => name === "file_search") ? none : null;
  if (citations === null) return none;
  if (citations.length === 0) return state === "cancelled" ? none : null;
  const before = known.get(citations);
  if (before !== undefined) return before;
  const markers = find(citations, text);
  known.set(citations, markers);
  return markers;
};

// In code they are text.
const codeOrMarker = /(?<!`)(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)|\[cite:[\d\s,]{1,40}\]/g;

/** The answer as somebody would paste it: markers as the numbers of their sources, which stand below. */
export const copyOf = (answer: Answer): string => {
  const text = answer.text();
  const markers = markersOf(answer);
  if (markers === null) return text;
  const body = text.replaceAll(codeOrMarker, (found) =>
    found.startsWith("`") ? found : (markers.get(found) ?? []).map(({ number }) => `[${number}]`).join(""),
  );
  const list = (answer.citations ?? []).map(
    ({ title, url, position }, at) =>
      `[${at + 1}] ${[title || "File", position, url].filter((part) => part !== undefined).join(", ")}`,
  );
  return list.length === 0 ? body : `${body}\n\nSources:\n${list.join("\n")}`;
};
