import { type Emit, placeName } from "./block.ts";
import { decodeText } from "./decode.ts";

/** A longer line comes in pieces of about this length: whole files are one line. */
const maxLine = 65_536;

function* linesOf(bytes: Uint8Array): Generator<{ readonly number: number; readonly line: string }> {
  let rest = "";
  let number = 1;
  for (const text of decodeText(bytes)) {
    const lines = (rest + text).split(/\r\n|[\n\u0085\u2028\u2029]|\r(?!$)/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      yield { number, line };
      number += 1;
    }
    if (rest.length < maxLine) continue;
    yield { number, line: rest };
    rest = "";
  }
  yield { number, line: rest };
}

/** Plain text and code: a block per line, indentation kept. */
export const extractText = (bytes: Uint8Array, emit: Emit): void => {
  for (const { number, line } of linesOf(bytes)) {
    emit({ text: line.trimEnd(), place: { kind: "line", number } });
  }
};

/** Markdown: as text, each line under its heading. A `#` inside a fence is no heading. */
export const extractMarkdown = (bytes: Uint8Array, emit: Emit): void => {
  let heading: string | undefined;
  let fence: string | undefined;
  for (const { number, line } of linesOf(bytes)) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence === undefined) fence = mark;
    else if (mark?.startsWith(fence)) fence = undefined;
    const title = fence === undefined ? /^ {0,3}#{1,6}[ \t]+([^\n]*)/.exec(line)?.[1] : undefined;
    if (title !== undefined) heading = placeName(title.replace(/[ \t]+#+[ \t]*$/, ""));
    emit({
      text: line.trimEnd(),
      place: { kind: "line", number, ...(heading === undefined ? {} : { name: heading }) },
    });
  }
};
