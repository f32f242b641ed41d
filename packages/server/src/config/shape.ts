import { z } from "zod";
import { configDocument } from "./document.ts";
import type { TreePath } from "./tree.ts";

/** What may stand at a key, as JSON Schema. */
export type Shape = z.core.JSONSchema.BaseSchema;

let whole: Shape | undefined;

/** The configuration file as JSON Schema. Rules that are code are not in it: see `check.ts`. */
export const documentShape = (): Shape => {
  whole ??= z.toJSONSchema(configDocument, { io: "input", unrepresentable: "any" });
  return whole;
};

/** The shape itself, or each of those it lets choose from. */
export const choicesOf = (shape: Shape): readonly Shape[] => {
  const choices = shape.anyOf ?? shape.oneOf;
  return choices === undefined
    ? [shape]
    : choices.filter((choice) => typeof choice !== "boolean").flatMap(choicesOf);
};

/** The JSON types a shape admits. */
export const typesOf = (shape: Shape): readonly string[] =>
  choicesOf(shape).flatMap(({ type }) => (type === undefined ? [] : type));

const isShape = (value: unknown): value is Shape => typeof value === "object" && value !== null;

const memberOf = (shape: Shape, part: string | number): readonly Shape[] => {
  if (typeof part === "number") return isShape(shape.items) ? [shape.items] : [];
  const named =
    shape.properties !== undefined && Object.hasOwn(shape.properties, part)
      ? shape.properties[part]
      : shape.additionalProperties;
  return isShape(named) ? [named] : [];
};

/** The JSON types a configuration may have at a path; none when there is no such key. */
export const typesAt = (path: TreePath): ReadonlySet<string> => {
  let shapes: readonly Shape[] = [documentShape()];
  for (const part of path) {
    shapes = shapes.flatMap(choicesOf).flatMap((shape) => memberOf(shape, part));
  }
  return new Set(shapes.flatMap(typesOf));
};
