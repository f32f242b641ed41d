import { type Archive, openArchive } from "./archive.ts";
import { type Emit, ExtractionError } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";
import { relationsOf } from "./relations.ts";
import { walkXml } from "./xml.ts";

const presentation = "ppt/presentation.xml";
const wanted =
  /^ppt\/(_rels\/presentation\.xml\.rels|presentation\.xml|(slides|notesSlides)\/(_rels\/)?[^/]+)$/;

/** Slides in the order they are shown, each with its notes. */
export const extractPptx = (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits): void => {
  const archive = openArchive(bytes, (path) => wanted.test(path), limits);
  if (!archive.has(presentation)) throw new ExtractionError("malformed");
  for (const [at, slide] of slidesOf(archive, limits).entries()) {
    const notes = [...relationsOf(archive, slide, limits).values()].filter((path) =>
      path.startsWith("ppt/notesSlides/"),
    );
    for (const part of [slide, ...notes]) extractParagraphs(archive.get(part), at + 1, emit, limits);
  }
};

const slidesOf = (archive: Archive, limits: ExtractionLimits): string[] => {
  const targets = relationsOf(archive, presentation, limits);
  const slides: string[] = [];
  walkXml(
    archive.get(presentation),
    {
      open: (name, attributes) => {
        const target = name === "sldId" ? targets.get(attributes["r:id"] ?? "") : undefined;
        if (target !== undefined) slides.push(target);
      },
    },
    limits,
  );
  return slides;
};

const extractParagraphs = (
  bytes: Uint8Array | undefined,
  number: number,
  emit: Emit,
  limits: ExtractionLimits,
): void => {
  let text = "";
  let inText = false;
  let fallbacks = 0;
  walkXml(
    bytes,
    {
      open: (tag) => {
        if (tag === "Fallback") fallbacks += 1;
        else if (tag === "t") inText = fallbacks === 0;
        else if (tag === "br" || tag === "tab") text += tag === "br" ? "\n" : " ";
        // The number of the slide on its notes says nothing.
        else if (tag === "fld") fallbacks += 1;
      },
      text: (piece) => {
        if (inText) text += piece;
      },
      close: (tag) => {
        if (tag === "Fallback" || tag === "fld") fallbacks -= 1;
        else if (tag === "t") inText = false;
        else if (tag === "p") {
          if (text.trim() !== "") emit({ text: text.trim(), place: { kind: "slide", number } });
          text = "";
        }
      },
    },
    limits,
  );
};
