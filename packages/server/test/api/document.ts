import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

/** A JSON Schema as the document holds it. */
export type Schema = Readonly<Record<string, unknown>>;

export interface Response {
  readonly description: string;
  readonly content?: Readonly<Record<string, { readonly schema: Schema }>>;
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly required: boolean;
  readonly schema: Schema;
}

interface DocumentedOperation {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, Response>>;
}

/** The OpenAPI document, as far as the tests read it. */
export interface ApiDocument {
  readonly openapi: string;
  readonly info: Readonly<Record<string, unknown>>;
  readonly servers: readonly { readonly url: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, DocumentedOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** One operation of the document. */
export interface Operation extends DocumentedOperation {
  readonly method: string;
  /** Below the server's URL, with `{name}` for parameters. */
  readonly path: string;
  /** The body's schema where JSON is expected, references resolved; null where there is none. */
  readonly jsonBody: Schema | null;
}

/** The schema a `$ref` leads to, or the schema itself. */
export const resolve = (document: ApiDocument, schema: Schema): Schema => {
  const reference = schema["$ref"];
  if (typeof reference !== "string") return schema;
  const found = document.components.schemas[reference.replace("#/components/schemas/", "")];
  if (found === undefined) throw new Error(`${reference} leads nowhere`);
  return found;
};

export const operationsOf = (document: ApiDocument): readonly Operation[] =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => {
      const body = operation.requestBody?.content["application/json"]?.schema;
      return {
        ...operation,
        method: method.toUpperCase(),
        path,
        jsonBody: body === undefined ? null : resolve(document, body),
      };
    }),
  );

const pattern = (path: string): RegExp =>
  new RegExp(`^${path.replace(/[.*+?^$()|[\]\\]/g, "\\$&").replace(/\{\w+\}/g, "[^/]+")}$`);

const isDecodable = (path: string): boolean => {
  try {
    return decodeURIComponent(path) !== "";
  } catch {
    return false;
  }
};

/** What was answered, with the body parsed where it is JSON. */
export interface Answered {
  readonly status: number;
  readonly contentType: string;
  readonly body: unknown;
}

/** Checks answers against the document (api.md §12.1). */
export interface Contract {
  readonly document: ApiDocument;
  readonly operations: readonly Operation[];
  /** The operation of a method and a path below the server's URL, query included or not. */
  find(method: string, path: string): Operation | undefined;
  /** What is wrong with the answer; empty when nothing is. A request to no operation must be refused. */
  faults(method: string, path: string, answer: Answered): readonly string[];
  /** What is wrong with an event of a stream. */
  eventFaults(event: string, data: unknown): readonly string[];
}

// Clients ignore unknown keys, so the document admits them; the server has no business sending any.
const closed = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(closed);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.fromEntries(Object.entries(value).map(([key, member]) => [key, closed(member)]));
  const isShape = members["type"] === "object" && "properties" in members;
  return isShape && !("additionalProperties" in members)
    ? { ...members, additionalProperties: false }
    : members;
};

const formats: Readonly<Record<string, RegExp | true>> = {
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  // api.md §1.5: UTC, `Z`, 0–6 fractional digits.
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/,
  int64: true,
};

export const createContract = (document: ApiDocument): Contract => {
  const ajv = new Ajv2020({ allErrors: true, strict: false, formats: { ...formats } });
  ajv.addSchema({ $id: "api", ...(closed({ components: document.components }) as object) });
  const operations = operationsOf(document);
  const validators = new Map<Schema, ValidateFunction>();
  const faultsOf = (schema: Schema, value: unknown): readonly string[] => {
    const known = validators.get(schema);
    const validate =
      known ??
      ajv.compile(
        JSON.parse(
          JSON.stringify(closed(schema)).replaceAll('"#/components/', '"api#/components/'),
        ) as object,
      );
    validators.set(schema, validate);
    if (validate(value)) return [];
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
  };
  const component = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
  const find: Contract["find"] = (method, path) => {
    const plain = path.replace(/[?#].*$/s, "").replace(/%3a/gi, ":");
    // The router refuses what it cannot decode, whatever it resembles.
    if (!isDecodable(plain)) return undefined;
    return operations.find((one) => one.method === method && pattern(one.path).test(plain));
  };
  const components = new Map(Object.keys(document.components.schemas).map((name) => [name, component(name)]));
  const named = (name: string): Schema => components.get(name) ?? { not: {} };
  return {
    document,
    operations,
    find,
    faults: (method, path, { status, contentType, body }) => {
      const operation = find(method, path);
      const mediaType = contentType.split(";", 1)[0] ?? "";
      if (status >= 400 && mediaType !== "application/problem+json") return [`${status} as ${mediaType}`];
      if (status >= 400 && (body as { status?: unknown } | null)?.status !== status) {
        return [`the problem's status is not ${status}`];
      }
      // A problem of the router or the parser belongs to no operation.
      if (operation === undefined) {
        return status >= 400 ? faultsOf(named("Problem"), body) : [`${status} without an operation`];
      }
      const response = operation.responses[status];
      if (response === undefined) return [`${operation.operationId} does not declare ${status}`];
      if (response.content === undefined) return body === "" ? [] : ["a body where none is declared"];
      const schema = response.content[mediaType]?.schema;
      if (schema === undefined) return [`${operation.operationId} does not declare ${status} ${mediaType}`];
      return mediaType === "text/event-stream" ? [] : faultsOf(schema, body);
    },
    eventFaults: (event, data) => {
      const name = event.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
      return faultsOf(named(`${name}Event`), data);
    },
  };
};
