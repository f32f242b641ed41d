/** A fenced piece of code; of a long one every stretch of lines is a block of its own. */
export interface CodeBlock {
  readonly kind: "code";
  readonly language: string;
  readonly text: string;
  /** Whether it has its head, with language and copy, and its end. */
  readonly first: boolean;
  readonly last: boolean;
  /** All stretches together, for copying. */
  whole(): string;
}

export interface MarkdownBlock {
  readonly kind: "markdown";
  readonly text: string;
}

export type Block = MarkdownBlock | CodeBlock;

/** Neighbouring blocks that are shown as one row; a finished part never changes. */
export type Part = readonly Block[];

export interface Splitter {
  push(text: string): void;
  /** Everything so far; the finished parts are the same objects as before. */
  parts(): readonly Part[];
}

const partLength = 2_500;
const codeLines = 150;
const listLength = 3_000;
const longestBlock = 8_000;

interface Fence {
  readonly mark: string;
  readonly language: string;
  readonly stretches: string[];
  lines: string[];
}

const opening = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const listItem = /^(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;
const heading = /^#{1,6}(?:\s|$)/;

const closes = (line: string, mark: string): boolean => {
  const text = line.trim();
  return text.length >= mark.length && text === (mark[0] ?? "").repeat(text.length) && /^ {0,3}\S/.test(line);
};

/**
 * Splits Markdown into blocks that can be parsed each for itself, as it comes: only the last one is still open.
 * It knows as much of the grammar as it needs to find places between blocks; where it is not sure it does not
 * split. What grows without such a place (lists, tables, code) is split at a line end once it is long.
 */
export const createSplitter = (): Splitter => {
  const parts: Part[] = [];
  let blocks: Block[] = [];
  let length = 0;
  let open = "";
  let blank = false;
  let inner: string | null = null;
  let table = "";
  let fence: Fence | null = null;
  let rest = "";

  const endPart = (): void => {
    if (blocks.length > 0) parts.push(blocks);
    blocks = [];
    length = 0;
  };
  const add = (block: Block): void => {
    blocks.push(block);
    length += block.text.length;
    if (length > partLength) endPart();
  };
  const endOpen = (): void => {
    if (open.trim() !== "") add({ kind: "markdown", text: open });
    open = "";
    blank = false;
    inner = null;
    table = "";
  };

  const stretch = (current: Fence, last: boolean, lines = current.lines): CodeBlock => ({
    kind: "code",
    language: current.language,
    text: lines.join("\n"),
    first: current.stretches.length === 0,
    last,
    whole: () => [...current.stretches, current.lines.join("\n")].join("\n"),
  });

  const codeLine = (current: Fence, line: string): void => {
    if (closes(line, current.mark)) {
      add(stretch(current, true));
      fence = null;
      return;
    }
    if (current.lines.length >= codeLines) {
      endPart();
      const block = stretch(current, false);
      blocks.push(block);
      current.stretches.push(block.text);
      current.lines = [];
      endPart();
    }
    current.lines.push(line);
  };

  const mustSplit = (line: string): boolean => {
    if (open.length > listLength && listItem.test(line)) return true;
    return open.length > longestBlock;
  };

  const startsBlock = (line: string): boolean => {
    if (open === "" || inner !== null) return false;
    if (heading.test(line) || mustSplit(line)) return true;
    return blank && !/^\s/.test(line) && !(listItem.test(open) && listItem.test(line));
  };

  const textLine = (line: string): void => {
    const fenced = opening.exec(line);
    if (inner !== null) {
      if (closes(line.trimStart(), inner)) inner = null;
    } else if (fenced !== null) {
      const [, indent = "", mark = "", info = ""] = fenced;
      if (indent === "" || !listItem.test(open)) {
        endOpen();
        fence = { mark, language: info.trim().split(/[\s{]/)[0] ?? "", stretches: [], lines: [] };
        return;
      }
      inner = mark;
    } else if (/^\s{4,}(`{3,}|~{3,})/.test(line) && listItem.test(open)) {
      inner = /`{3,}|~{3,}/.exec(line)?.[0] ?? null;
    }
    if (line.trim() === "") {
      open += "\n";
      blank = true;
      return;
    }
    if (startsBlock(line)) {
      // The rows of a table that goes on need its head.
      const head = !blank && line.startsWith("|") ? table : "";
      endOpen();
      open = head;
      table = head;
    }
    blank = false;
    if (table === "" && /^\|?[\s:|-]*-[\s:|-]*$/.test(line) && line.includes("|")) {
      const before = open.trimEnd().split("\n").at(-1) ?? "";
      table = `${before}\n${line}\n`;
    }
    open += `${line}\n`;
  };

  const tail = (): Block[] => {
    if (fence !== null) {
      // What may become the end of the code is not shown as a line of it.
      const begun = rest === "" || /^ {0,3}[`~]+$/.test(rest) ? [] : [rest];
      return [stretch(fence, true, [...fence.lines, ...begun])];
    }
    const text = open + rest;
    return text.trim() === "" ? [] : [{ kind: "markdown", text }];
  };

  return {
    push: (text) => {
      rest += text;
      if (!text.includes("\n")) return;
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (fence !== null) codeLine(fence, line);
        else textLine(line);
      }
    },
    parts: () => {
      const last = [...blocks, ...tail()];
      return last.length === 0 ? [...parts] : [...parts, last];
    },
  };
};

/** The parts of a text that is complete. */
export const splitMarkdown = (text: string): readonly Part[] => {
  const splitter = createSplitter();
  splitter.push(`${text}\n`);
  return splitter.parts();
};
