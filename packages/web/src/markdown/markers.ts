interface MarkdownNode {
  readonly type: string;
  readonly value?: string;
  children?: MarkdownNode[] | undefined;
  readonly data?: object;
}

// Also one that is still being written, at the end.
const marker = /\[cite:[\d\s,]{1,40}\]|\[cite:[\d\s,]{0,40}$/g;

// What is kept on one line with the number behind it: the end of the word before.
const ending = /\S{0,12} ?$/;

const textNode = (value: string): MarkdownNode => ({ type: "text", value });

const element = (name: string, className: string, children: MarkdownNode[]): MarkdownNode => ({
  type: "marker",
  children,
  data: { hName: name, ...(className === "" ? {} : { hProperties: { className } }) },
});

const piecesOf = (text: string): MarkdownNode[] => {
  const pieces: MarkdownNode[] = [];
  let at = 0;
  for (const { 0: found, index } of text.matchAll(marker)) {
    const before = text.slice(at, index);
    const word = ending.exec(before)?.[0] ?? "";
    pieces.push(
      textNode(before.slice(0, before.length - word.length)),
      element("span", "with-mark", [textNode(word), element("cite", "", [textNode(found)])]),
    );
    at = index + found.length;
  }
  pieces.push(textNode(text.slice(at)));
  return pieces.filter(({ value }) => value !== "");
};

const mark = (node: MarkdownNode): void => {
  node.children = node.children?.flatMap((child) => {
    mark(child);
    return child.type === "text" && child.value?.includes("[cite:") ? piecesOf(child.value) : [child];
  });
};

/** Makes an element of each marker of a passage (retrieval.md) in the text of an answer; code stays as it is. */
export const remarkMarkers = () => mark;
