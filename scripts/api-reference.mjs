// docs/openapi.json → docs/api.md: every operation with its fields and refusals, for reading.
// `--write` replaces the file; without it the text is printed.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const source = new URL("../docs/openapi.json", import.meta.url);
const target = new URL("../docs/api.md", import.meta.url);

const head = `# API reference

<!-- Made from openapi.json by scripts/api-reference.mjs; do not edit. -->

All paths are below \`{url_prefix}/v1\`; requests carry \`Authorization: Bearer …\`. A refusal is \`application/problem+json\`
with a stable \`code\`. The same as a document for tools: [openapi.json](openapi.json), also at \`/openapi.json\`; \`/docs\` shows it.
`;

const resolved = (document, schema = {}) => {
  if (schema.$ref === undefined) return schema;
  return {
    ...document.components.schemas[schema.$ref.split("/").at(-1)],
    $name: schema.$ref.split("/").at(-1),
  };
};

const objectOf = (document, { properties }) =>
  `{ ${Object.entries(properties)
    .map(([name, field]) => {
      const { $name, items, type } = resolved(document, field);
      if ($name !== undefined) return `${name}: ${$name}`;
      return type === "array" ? `${name}: list of ${resolved(document, items).$name ?? "objects"}` : name;
    })
    .join(", ")} }`;

const typeOf = (document, schema) => {
  const found = resolved(document, schema);
  if (found.$name !== undefined) return found.$name;
  if (found.const !== undefined) return `\`${JSON.stringify(found.const)}\``;
  if (found.enum !== undefined) return found.enum.map((value) => `\`${value}\``).join(", ");
  const choices = found.anyOf ?? found.oneOf;
  if (choices !== undefined) return choices.map((one) => typeOf(document, one)).join(" or ");
  if (found.type === "array") return `list of ${typeOf(document, found.items)}`;
  if (found.properties !== undefined) return objectOf(document, found);
  const type = [found.type ?? "any"].flat().join(" or ");
  return found.format === undefined || found.format === "int64" ? type : `${type} (${found.format})`;
};

const limitsOf = ({ minimum, maximum, minLength, maxLength, maxItems, default: given }) =>
  [
    minimum !== undefined || maximum !== undefined ? `${minimum ?? ""}–${maximum ?? ""}` : null,
    maxLength === undefined ? null : `${minLength ?? 0}–${maxLength} characters`,
    maxItems === undefined ? null : `at most ${maxItems}`,
    given === undefined ? null : `default \`${JSON.stringify(given)}\``,
  ].filter((text) => text !== null);

const cell = (text) => text.replaceAll("|", "\\|").replaceAll(/\s*\n\s*/g, " ");

const row = (name, type, required, schema) => {
  const notes = [...limitsOf(schema), ...(schema.description === undefined ? [] : [schema.description])];
  return `| \`${name}\`${required ? "" : "?"} | ${cell(type)} | ${cell(notes.join("; "))} |`;
};

const table = (title, rows) =>
  rows.length === 0 ? [] : [`${title}`, "", "| Name | Type | |", "|---|---|---|", ...rows, ""];

const fieldRows = (document, schema) => {
  const found = resolved(document, schema);
  if (found.properties === undefined) return [];
  return Object.entries(found.properties).map(([name, field]) =>
    row(name, typeOf(document, field), (found.required ?? []).includes(name), resolved(document, field)),
  );
};

const parameterRows = (document, { parameters = [] }) =>
  parameters.map(({ name, in: place, required, description, schema }) =>
    row(place === "header" ? `${name}:` : name, `${place}, ${typeOf(document, schema)}`, required === true, {
      ...resolved(document, schema),
      ...(description === undefined ? {} : { description }),
    }),
  );

const bodySchema = ({ requestBody }) => Object.values(requestBody?.content ?? {})[0]?.schema;

const successes = (document, { responses }) =>
  Object.entries(responses)
    .filter(([status]) => Number(status) < 400)
    .map(([status, { description, content = {} }]) => {
      const [type] = Object.keys(content);
      const text = description.replace(/^Success\.\s*/, "");
      const shape = type === undefined ? "" : typeOf(document, content[type].schema);
      const told = [
        type === undefined ? "no body" : `\`${type}\``,
        type === "text/event-stream" ? "" : shape,
        text,
      ];
      return `**${status}** ${cell(told.filter((part) => part !== "").join(", "))}`;
    });

const refusals = ({ responses }) =>
  Object.entries(responses)
    .filter(([status]) => Number(status) >= 400)
    .map(([status, { description }]) => `${status} ${description.replaceAll(/\b[a-z_]+\b/g, "`$&`")}`)
    .join("; ");

const operation = (document, method, path, one) => [
  `### ${one.summary}`,
  "",
  `\`${method.toUpperCase()} ${path}\``,
  "",
  ...(one.description === undefined ? [] : [one.description, ""]),
  ...table("Parameters", parameterRows(document, one)),
  ...table("Body", fieldRows(document, bodySchema(one))),
  ...successes(document, one).flatMap((line) => [line, ""]),
  `Refused: ${refusals(one)}.`,
  "",
];

/** The reference as Markdown. */
export const apiReference = (document) => {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => ({ path, method, one })),
  );
  const tags = [...new Set(operations.map(({ one }) => one.tags?.[0] ?? "other"))];
  const chapters = tags.flatMap((tag) => [
    `## ${tag[0].toUpperCase()}${tag.slice(1)}`,
    "",
    ...operations
      .filter(({ one }) => (one.tags?.[0] ?? "other") === tag)
      .flatMap(({ path, method, one }) => operation(document, method, path, one)),
  ]);
  const shapes = Object.entries(document.components.schemas).flatMap(([name, schema]) =>
    table(`### ${name}`, fieldRows(document, schema)),
  );
  return [head, ...chapters, "## Shapes", "", ...shapes].join("\n").trimEnd().concat("\n");
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = apiReference(JSON.parse(readFileSync(source, "utf8")));
  if (process.argv.includes("--write")) writeFileSync(target, text);
  else process.stdout.write(text);
}
