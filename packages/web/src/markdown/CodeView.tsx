import { memo, useEffect, useState } from "react";
import { CopyButton } from "../ui/CopyButton.tsx";
import type { CodeBlock } from "./blocks.ts";
import { highlight, type Stretch } from "./highlight.ts";

const useColours = (language: string, text: string, wanted: boolean): readonly Stretch[] | null => {
  const [coloured, setColoured] = useState<{ text: string; stretches: readonly Stretch[] } | null>(null);
  useEffect(() => {
    if (!wanted || language === "") return;
    let current = true;
    highlight(language, text).then(
      (stretches) => {
        if (current && stretches !== null) setColoured({ text, stretches });
      },
      () => {},
    );
    return () => {
      current = false;
    };
  }, [language, text, wanted]);
  return coloured !== null && coloured.text === text ? coloured.stretches : null;
};

/** Code with its language, colours once it is complete, and a button to copy it. */
export const CodeView = memo(
  ({ block, settled }: { readonly block: CodeBlock; readonly settled: boolean }) => {
    const { language, text, first, last } = block;
    const stretches = useColours(language, text, settled);
    return (
      <figure className={`code${first ? " code-first" : ""}${last ? " code-last" : ""}`} dir="ltr">
        {first && (
          <figcaption className="code-head">
            <span>{language === "" ? "text" : language}</span>
            <CopyButton text={block.whole} label="Copy code" />
          </figcaption>
        )}
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
        <pre tabIndex={0}>
          <code>
            {stretches === null
              ? text
              : stretches.map(({ style, text: piece }, at) =>
                  style === "" ? (
                    piece
                  ) : (
                    // biome-ignore lint/suspicious/noArrayIndexKey: a row of stretches never changes its order
                    <span key={at} className={style}>
                      {piece}
                    </span>
                  ),
                )}
          </code>
        </pre>
      </figure>
    );
  },
);
