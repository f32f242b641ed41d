import { z } from "zod";

type Json = Record<string, unknown>;

/** Named schemas of the document, filled while operations are described. */
export type Components = Map<string, Json>;

const isJson = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

// Clients meet fields they do not know (api.md §10), and every integer of JSON is a safe one.
const saysNothing = (key: string, member: unknown): boolean =>
  (key === "additionalProperties" && member === false) ||
  (key === "minimum" && member === Number.MIN_SAFE_INTEGER) ||
  (key === "maximum" && member === Number.MAX_SAFE_INTEGER);

/** Rewrites references and drops what only a stand-alone document needs. */
const relocate = (value: unknown, names: ReadonlyMap<string, string>): unknown => {
  if (Array.isArray(value)) return value.map((item) => relocate(item, names));
  if (!isJson(value)) return value;
  const moved: Json = {};
  for (const [key, member] of Object.entries(value)) {
    if (key === "$schema" || key === "$defs" || saysNothing(key, member)) continue;
    if (key === "$ref" && typeof member === "string") {
      const name = member.replace("#/$defs/", "");
      moved.$ref = `#/components/schemas/${names.get(name) ?? name}`;
    } else moved[key] = relocate(member, names);
  }
  return moved;
};

/**
 * A zod schema as JSON Schema 2020-12. Schemas with an `id` in their meta data become components and
 * are referred to; where input and output of one differ, the input is named `…Input`.
 */
export const toJsonSchema = (schema: z.ZodType, io: "input" | "output", components: Components): Json => {
  const id = z.globalRegistry.get(schema)?.id;
  // Wrapped, so that the schema itself is found among the definitions when it has a name.
  const root = id === undefined ? schema : z.object({ it: schema });
  const generated: Json = z.toJSONSchema(root, { io, unrepresentable: "any", target: "draft-2020-12" });
  const definitions = isJson(generated.$defs) ? generated.$defs : {};
  const names = new Map<string, string>();
  for (const [name, definition] of Object.entries(definitions)) {
    const known = components.get(name);
    const own = JSON.stringify(relocate(withoutId(definition), names));
    if (io === "input" && known !== undefined && JSON.stringify(known) !== own)
      names.set(name, `${name}Input`);
  }
  for (const [name, definition] of Object.entries(definitions)) {
    const moved = relocate(withoutId(definition), names);
    if (isJson(moved)) components.set(names.get(name) ?? name, moved);
  }
  if (id !== undefined) return { $ref: `#/components/schemas/${names.get(id) ?? id}` };
  const moved = relocate(generated, names);
  return isJson(moved) ? moved : {};
};

const withoutId = (definition: unknown): unknown => {
  if (!isJson(definition)) return definition;
  const { id: _, ...rest } = definition;
  return rest;
};
