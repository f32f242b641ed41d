interface MarkdownNode {
  readonly type: string;
  readonly value?: string;
  children?: MarkdownNode[] | undefined;
  readonly data?: object;
}

// Also one that is still being written, at the end.
const marker = /\[cite:[\d\s,]{1,40}\]|\[cite:[\d\s,]{0,40}$/g;

const piecesOf = (text: string): MarkdownNode[] => {
  const pieces: MarkdownNode[] = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(marker)) {
    // A number never begins a line of its own.
    const before = text.slice(at, index).replace(/ $/, "\u00a0");
    if (before !== "") pieces.push({ type: "text", value: before });
    pieces.push({
      type: "marker",
      data: { hName: "cite", hChildren: [{ type: "text", value: found }] },
    });
    at = index + found.length;
  }
  if (at < text.length) pieces.push({ type: "text", value: text.slice(at) });
  return pieces;
};

const mark = (node: MarkdownNode): void => {
  node.children = node.children?.flatMap((child) => {
    mark(child);
    return child.type === "text" && child.value?.includes("[cite:") ? piecesOf(child.value) : [child];
  });
};

/** Makes an element of each marker of a passage (retrieval.md) in the text of an answer; code stays as it is. */
export const remarkMarkers = () => mark;
