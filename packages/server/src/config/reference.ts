import { type KeyNote, keyNotes } from "./notes.ts";
import { choicesOf, documentShape, type Shape, typesOf } from "./shape.ts";

/** One key that takes a value, as the reference shows it. */
export interface ConfigKey {
  /** `providers.<id>.host`, `auth.tokens[].token`. */
  readonly key: string;
  readonly type: string;
  readonly fallback: string;
  readonly valid: string;
  readonly secret: boolean;
}

const isShape = (value: unknown): value is Shape => typeof value === "object" && value !== null;

const mapKeyNames: Readonly<Record<string, string>> = {
  providers: "<id>",
  tenant_overrides: "<tenant_id>",
};

/** Every key of the configuration, in the order of the schema; maps and lists are walked into. */
export const configKeys = (): readonly ConfigKey[] => walk("", documentShape(), true);

const walk = (key: string, shape: Shape, optional: boolean): ConfigKey[] => {
  const choices = choicesOf(shape);
  const members = choices.flatMap((choice) => membersOf(key, choice));
  const items = choices.flatMap(({ items }) => (isShape(items) ? membersOf(`${key}[]`, items) : []));
  const inside = [...members, ...items];
  return inside.length === 0 ? [leaf(key, shape, optional)] : mergeRepeated(inside);
};

const membersOf = (key: string, shape: Shape): ConfigKey[] => {
  const named = Object.entries(shape.properties ?? {}).flatMap(([name, member]) =>
    isShape(member)
      ? walk(key === "" ? name : `${key}.${name}`, member, shape.required?.includes(name) !== true)
      : [],
  );
  const any = shape.additionalProperties;
  const name = mapKeyNames[key.slice(key.lastIndexOf(".") + 1)];
  return named.concat(isShape(any) && name !== undefined ? walk(`${key}.${name}`, any, true) : []);
};

/** The alternatives of a union share keys: `auth.kind` is one row with both values. */
const mergeRepeated = (keys: readonly ConfigKey[]): ConfigKey[] => {
  const merged = new Map<string, ConfigKey>();
  for (const entry of keys) {
    const earlier = merged.get(entry.key);
    const valid = earlier === undefined ? entry.valid : `${earlier.valid}, ${entry.valid}`;
    merged.set(entry.key, { ...entry, valid });
  }
  return [...merged.values()];
};

const leaf = (key: string, shape: Shape, optional: boolean): ConfigKey => ({
  key,
  type: typesOf(shape).map(typeName).join(" or "),
  fallback: fallbackOf(shape, optional),
  valid: validOf(shape),
  secret: choicesOf(shape).some((choice) => choice.writeOnly === true),
});

const typeName = (type: string): string =>
  ({ integer: "int", boolean: "bool", array: "list", object: "map" })[type] ?? type;

const code = (value: unknown): string => `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;

const fallbackOf = (shape: Shape, optional: boolean): string => {
  if (shape.default === "") return "empty";
  if (shape.default !== undefined) return code(shape.default);
  return optional ? "–" : "required";
};

/** Limits that are only what a timer or a number can hold. */
const noLimits: readonly number[] = [2_147_483, 2_147_483_647, Number.MAX_SAFE_INTEGER];

const validOf = (shape: Shape): string =>
  choicesOf(shape)
    .flatMap(({ type, enum: values, const: only, minimum, maximum, minLength, maxLength }) => {
      if (values !== undefined) return values.map(code).join(", ");
      if (only !== undefined) return code(only);
      if (minimum !== undefined && maximum !== undefined && !noLimits.includes(maximum))
        return `${minimum}–${maximum}`;
      if (minimum !== undefined) return `≥ ${minimum}`;
      if (minLength !== undefined && minLength > 1) return `≥ ${minLength} characters`;
      if (maxLength !== undefined) return `≤ ${maxLength} characters`;
      return type === "null" ? code(null) : [];
    })
    .join(" or ");

/** The tables of `docs/configuration.md`, one section of the file each. Throws for a key without a note. */
export const referenceMarkdown = (): string => {
  const sections = new Map<string, string[]>();
  for (const entry of configKeys()) {
    const dot = entry.key.indexOf(".");
    const section = dot < 0 ? "Process" : `\`${entry.key.slice(0, dot)}\``;
    sections.set(section, [...(sections.get(section) ?? []), row(entry)]);
  }
  return [...sections]
    .map(([title, rows]) => [`### ${title}`, "", ...heading, ...rows, ""].join("\n"))
    .join("\n");
};

const heading = ["| Key | Type | Default | Valid | Effect |", "|---|---|---|---|---|"];

// A tenant's credentials are described like the provider's own.
const noteOf = (key: string): KeyNote | undefined => {
  const note = keyNotes[key.replace("tenant_overrides.<tenant_id>.auth.", "auth.")];
  return typeof note === "string" ? { effect: note } : note;
};

const row = (entry: ConfigKey): string => {
  const note = noteOf(entry.key);
  if (note === undefined) throw new Error(`notes.ts has no note for ${entry.key}`);
  const { effect, valid = entry.valid, fallback = entry.fallback } = note;
  const cells = [`\`${entry.key}\``, entry.secret ? "secret" : entry.type, fallback, valid, effect];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
};
