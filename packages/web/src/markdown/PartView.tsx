import { memo } from "react";
import type { Part } from "./blocks.ts";
import { CodeView } from "./CodeView.tsx";
import { MarkdownText } from "./MarkdownText.tsx";

/** A row of an answer. `open`: its last block is still being written. */
export const PartView = memo(({ part, open }: { readonly part: Part; readonly open: boolean }) => (
  <div className="markdown" dir="auto">
    {part.map((block, at) =>
      block.kind === "code" ? (
        // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever added at the end
        <CodeView key={at} block={block} settled={!open || at < part.length - 1} />
      ) : (
        // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever added at the end
        <MarkdownText key={at} text={block.text} />
      ),
    )}
  </div>
));
