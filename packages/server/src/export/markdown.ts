import type { Chat } from "../chats/chat.ts";
import { type Citation, citeMarker } from "../context/citations.ts";
import type { WholeMessage } from "../messages/walk.ts";

/** One line of text in which nothing is Markdown or HTML: every ASCII punctuation may be escaped there. */
const literal = (text: string): string =>
  text
    .replace(/\s+/gu, " ")
    .trim()
    .replace(/[!-/:-@[-`{-~]/g, "\\$&");

/**
 * The text as a block quote. Its fences, headings, lists and HTML end with the quote, whatever they leave
 * open, and taking `> ` off each line gives the text back.
 */
const quoted = (text: string): string => `> ${text.replace(/\r\n|\n|\r/g, "$&> ")}`;

const url = (text: string): string => text.replace(/[\s<>\\]/gu, encodeURIComponent);

const speakers = { user: "User", assistant: "Assistant", system: "System" } as const;

/** The head of the document. */
export const markdownHead = (chat: Chat, exportedAt: string): string =>
  [
    `# ${chat.title === null ? "Untitled chat" : literal(chat.title)}`,
    "",
    `- Model: ${literal(chat.model)}`,
    `- Created: ${chat.createdAt}`,
    `- Exported: ${exportedAt}`,
    "",
  ].join("\n");

/**
 * A message: a heading, its text as a quote, and outside of it what belongs to it. Labels of footnotes are
 * made of the message's id, which nobody knew when the text was written, so no text can define them first.
 */
export const markdownMessage = ({ view, citations }: WholeMessage): string => {
  const label = (at: number): string => `[^${view.id.slice(0, 13)}-${at + 1}]`;
  const model = view.model === undefined ? "" : ` (${literal(view.model)})`;
  const text = withLabels(view.content, citations, label);
  const blocks = [`## ${speakers[view.role]}${model}, ${view.created_at}`, quoted(text)];
  if (view.attachments.length > 0) {
    blocks.push(
      [
        "Attachments:",
        "",
        ...view.attachments.map(({ filename, kind }) => `- ${literal(filename)} (${kind})`),
      ].join("\n"),
    );
  }
  if (citations.length > 0) {
    blocks.push(`Sources: ${citations.map((_, at) => label(at)).join(" ")}`);
    blocks.push(citations.map((one, at) => `${label(at)}: ${source(one)}`).join("\n"));
  }
  return `\n${blocks.join("\n\n")}\n`;
};

// In code a marker is text.
const code = /(?<!`)(`+)(?!`)[\s\S]*?(?<!`)\1(?!`)/;
const codeOrMarker = new RegExp(`${code.source}|${citeMarker}`, "g");

/** The text with its footnotes where their markers stand; a marker of no source, beside others, says nothing. */
const withLabels = (
  content: string,
  citations: readonly Citation[],
  label: (at: number) => string,
): string => {
  const points = [...content];
  const labels = new Map<string, Set<string>>();
  citations.forEach(({ source, span }, at) => {
    const found = source === "file" && span !== undefined ? points.slice(span.start, span.end).join("") : "";
    if (found.startsWith("[cite:")) labels.set(found, (labels.get(found) ?? new Set()).add(label(at)));
  });
  return labels.size === 0
    ? content
    : content.replaceAll(codeOrMarker, (found) =>
        found.startsWith("`") ? found : [...(labels.get(found) ?? [])].join(""),
      );
};

const source = ({ title, url: address, snippet, position }: Citation): string => {
  const name = literal(title) || (address === undefined ? "Source" : literal(address));
  const named = address === undefined ? name : `[${name}](<${url(address)}>)`;
  const placed = position === undefined ? named : `${named}, ${literal(position)}`;
  return snippet.trim() === "" ? placed : `${placed}: ${literal(snippet)}`;
};
