// docs/openapi.json → packages/client/src/generated/api.ts: types only. An own generator, because
// openapi-typescript needs the compiler API that TypeScript 7 does not have yet (docs/decisions/0001-toolchain.md).
// `--write` replaces the file; without it the text is printed.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const source = new URL("../docs/openapi.json", import.meta.url);
const target = new URL("../packages/client/src/generated/api.ts", import.meta.url);

const head = `// Generated from docs/openapi.json by scripts/client-types.mjs; do not edit.
// A newer server may add fields and enum values: ignore what you do not know (api.md §3, §10).
`;

const literals = (values) => values.map((value) => JSON.stringify(value)).join(" | ");

const primitives = {
  string: "string",
  integer: "number",
  number: "number",
  boolean: "boolean",
  null: "null",
};

/** A property name as it is written in a type. */
const key = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name));

const indented = (lines) => lines.map((line) => `  ${line.replaceAll("\n", "\n  ")}`).join("\n");

const fieldsOf = ({ properties = {}, required = [] }) =>
  Object.entries(properties).map(([name, schema]) =>
    required.includes(name)
      ? `readonly ${key(name)}: ${typeOf(schema)};`
      : `readonly ${key(name)}?: ${typeOf(schema)} | undefined;`,
  );

const objectType = (schema) => {
  const { additionalProperties: more } = schema;
  if (more !== undefined && more !== false && more !== true) {
    return `Readonly<Record<string, ${Object.keys(more).length === 0 ? "unknown" : typeOf(more)}>>`;
  }
  const fields = fieldsOf(schema);
  return fields.length === 0 ? "Readonly<Record<string, never>>" : `{\n${indented(fields)}\n}`;
};

/** The type of a schema; throws on what no schema of the document has used so far. */
const typeOf = (schema) => {
  if (schema.$ref !== undefined) return schema.$ref.replace("#/components/schemas/", "");
  if (schema.enum !== undefined) return literals(schema.enum);
  if (schema.const !== undefined) return literals([schema.const]);
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(typeOf))].join(" | ");
  if (schema.allOf !== undefined) return schema.allOf.map((part) => `(${typeOf(part)})`).join(" & ");
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type })).join(" | ");
  if (schema.type === "array") {
    const item = typeOf(schema.items);
    return /^\w+$/.test(item) ? `readonly ${item}[]` : `ReadonlyArray<${item}>`;
  }
  if (schema.type === "object") return objectType(schema);
  const primitive = primitives[schema.type];
  if (primitive === undefined) throw new Error(`no type for ${JSON.stringify(schema)}`);
  // The file of an upload (OpenAPI 3.1: a string of another media type).
  return schema.contentMediaType === undefined ? primitive : "Blob";
};

const declaration = ([name, schema]) => {
  const fields = schema.type === "object" && schema.properties !== undefined ? fieldsOf(schema) : [];
  return fields.length > 0
    ? `export interface ${name} {\n${indented(fields)}\n}\n`
    : `export type ${name} = ${typeOf(schema)};\n`;
};

const unionOf = (types) => (types.length === 0 ? "undefined" : [...new Set(types)].join(" | "));

const parametersOf = (parameters, place) => {
  const named = parameters.filter((parameter) => parameter.in === place);
  return objectType({
    properties: Object.fromEntries(named.map(({ name, schema }) => [name, schema])),
    required: named.filter(({ required }) => required).map(({ name }) => name),
  });
};

const answersOf = (responses) =>
  Object.entries(responses)
    .filter(([status]) => status < "4")
    .flatMap(([, { content = {} }]) => Object.values(content).map(({ schema }) => typeOf(schema)));

/** The codes an operation may refuse with: every enum below a `code` of its problems. */
const codesOf = (responses) => {
  const codes = new Set();
  const visit = (value) => {
    if (typeof value !== "object" || value === null) return;
    for (const code of value.code?.enum ?? []) codes.add(code);
    for (const below of Object.values(value)) visit(below);
  };
  visit(Object.entries(responses).filter(([status]) => status >= "4"));
  return [...codes].sort();
};

const operation = (path, method, { operationId, summary, parameters = [], requestBody, responses }) => {
  const bodies = Object.values(requestBody?.content ?? {}).map(({ schema }) => typeOf(schema));
  const fields = [
    `readonly path: ${parametersOf(parameters, "path")};`,
    `readonly query: ${parametersOf(parameters, "query")};`,
    `readonly body: ${unionOf(bodies)};`,
    `readonly response: ${unionOf(answersOf(responses))};`,
    `readonly code: ${literals(codesOf(responses))};`,
  ];
  return `/** ${method.toUpperCase()} ${path}: ${summary} */\nreadonly ${operationId}: {\n${indented(fields)}\n};`;
};

/** The whole file for a document. */
export const clientTypes = (document) => {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => operation(path, method, one)),
  );
  return [
    head,
    ...Object.entries(document.components.schemas).map(declaration),
    `/** What each operation takes and gives, by its operationId. */\nexport interface Operations {\n${indented(operations)}\n}\n`,
  ].join("\n");
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = clientTypes(JSON.parse(readFileSync(source, "utf8")));
  if (process.argv.includes("--write")) writeFileSync(target, text);
  else process.stdout.write(text);
}
