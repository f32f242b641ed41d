import { Parser } from "htmlparser2";
import { ExtractionError } from "./block.ts";
import { decodeText, encodingOfPage } from "./decode.ts";
import type { ExtractionLimits } from "./limits.ts";

export type Attributes = Readonly<Record<string, string>>;

/** What a walk through a document tells; names are without their prefix. */
export interface Walk {
  open?(name: string, attributes: Attributes): void;
  text?(text: string): void;
  close?(name: string): void;
}

const localName = (name: string): string => name.slice(name.indexOf(":") + 1);

/** The value of an attribute whatever its prefix is; the relationship `r:id` is asked for by its whole name. */
export const attribute = (attributes: Attributes, name: string): string | undefined =>
  attributes[name] ?? Object.entries(attributes).find(([key]) => localName(key) === name)?.[1];

const depthGuard = (limits: ExtractionLimits): { enter(): void; leave(): void } => {
  let depth = 0;
  return {
    enter: () => {
      depth += 1;
      if (depth > limits.maxDepth) throw new ExtractionError("too_large");
    },
    leave: () => {
      depth -= 1;
    },
  };
};

/**
 * Walks through XML without building it. Entities a document declares are not known to the parser, so
 * there is nothing to expand.
 */
export const walkXml = (bytes: Uint8Array | undefined, walk: Walk, limits: ExtractionLimits): void => {
  if (bytes === undefined) return;
  const depth = depthGuard(limits);
  const parser = new Parser(
    {
      onopentag: (name, attributes) => {
        depth.enter();
        walk.open?.(localName(name), attributes);
      },
      ontext: (text) => walk.text?.(text),
      onclosetag: (name) => {
        depth.leave();
        walk.close?.(localName(name));
      },
    },
    { xmlMode: true, decodeEntities: true },
  );
  for (const text of decodeText(bytes)) parser.write(text);
  parser.end();
};

/** Walks through HTML as forgivingly as a browser; names are in lower case. */
export const walkHtml = (bytes: Uint8Array, walk: Walk, limits: ExtractionLimits): void => {
  const depth = depthGuard(limits);
  const parser = new Parser(
    {
      onopentag: (name, attributes) => {
        depth.enter();
        walk.open?.(name, attributes);
      },
      ontext: (text) => walk.text?.(text),
      onclosetag: (name) => {
        depth.leave();
        walk.close?.(name);
      },
    },
    { decodeEntities: true },
  );
  for (const text of decodeText(bytes, encodingOfPage(bytes))) parser.write(text);
  parser.end();
};
