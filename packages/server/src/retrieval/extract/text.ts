import { type Emit, placeName } from "./block.ts";
import { decodeText } from "./decode.ts";

function* linesOf(bytes: Uint8Array): Generator<string> {
  let rest = "";
  for (const text of decodeText(bytes)) {
    const lines = (rest + text).split(/\r\n|[\n\u0085\u2028\u2029]|\r(?!$)/);
    rest = lines.pop() ?? "";
    yield* lines;
  }
  yield rest.replace(/\r$/, "");
}

/** Plain text and code: a block per line, indentation kept. */
export const extractText = (bytes: Uint8Array, emit: Emit): void => {
  let number = 0;
  for (const line of linesOf(bytes)) {
    number += 1;
    emit({ text: line.trimEnd(), place: { kind: "line", number } });
  }
};

/** Markdown: as text, each line under its heading. A `#` inside a fence is no heading. */
export const extractMarkdown = (bytes: Uint8Array, emit: Emit): void => {
  let number = 0;
  let heading: string | undefined;
  let fence: string | undefined;
  for (const line of linesOf(bytes)) {
    number += 1;
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
