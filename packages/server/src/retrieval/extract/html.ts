import { type Emit, placeName } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";
import { walkHtml } from "./xml.ts";

const silent = new Set(
  "script style noscript template svg math iframe object canvas audio video select".split(" "),
);
const inline = new Set(
  "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark q s samp small span strong strike sub sup time tt u var wbr".split(
    " ",
  ),
);
const cells = new Set(["td", "th"]);
const heading = /^h[1-6]$/;

/** Visible text, a block per paragraph, under its heading. Scripts, styles and what is embedded are left out. */
export const extractHtml = (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits): void => {
  let number = 0;
  let name: string | undefined;
  let text = "";
  let unheard = 0;
  const flush = (): string => {
    const paragraph = text
      .replace(/\s+/gu, " ")
      .replace(/(?: \|)+ ?$/, "")
      .trim();
    text = "";
    if (paragraph === "") return "";
    number += 1;
    emit({
      text: paragraph,
      place: { kind: "section", number, ...(name === undefined ? {} : { name }) },
    });
    return paragraph;
  };
  walkHtml(
    bytes,
    {
      open: (tag, attributes) => {
        if (silent.has(tag)) unheard += 1;
        if (tag === "img" && unheard === 0) text += ` ${attributes["alt"] ?? ""} `;
        if (!inline.has(tag) && !cells.has(tag) && tag !== "img") flush();
      },
      text: (piece) => {
        if (unheard === 0) text += piece;
      },
      close: (tag) => {
        if (silent.has(tag)) unheard -= 1;
        if (cells.has(tag)) {
          text += " | ";
        } else if (heading.test(tag)) {
          const title = placeName(text);
          if (title !== undefined) name = title;
          flush();
        } else if (!inline.has(tag) && tag !== "img") {
          flush();
        }
      },
    },
    limits,
  );
  flush();
};
