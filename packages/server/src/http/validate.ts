import type { FastifySchemaCompiler } from "fastify";
import { z } from "zod";
import { AppError, type FieldError } from "../errors.ts";
import { isUuid } from "../lib/id.ts";
import { canonicalInstant } from "./odata-tokens.ts";

/** A UUID of any version in either case, in answers and storage lower case (api.md §1.5). */
export const uuid = () =>
  z
    .string()
    .refine(isUuid, "must be a UUID")
    .transform((text) => text.toLowerCase())
    .meta({ format: "uuid", example: "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f" });

/** A UUID in an answer. */
export const uuidOut = () => z.string().meta({ format: "uuid" });

/** An int64 in an answer: a JSON number without fraction, never a string (api.md §1.5). */
export const int64 = () => z.bigint().meta({ type: "integer", format: "int64" });

/** A timestamp of a request, as PostgreSQL reads it; digits past the microsecond are cut. */
export const timestampIn = () =>
  z
    .string()
    .refine((text) => canonicalInstant(text) !== null, "must be an RFC 3339 date-time")
    .transform((text) => canonicalInstant(text) ?? text)
    .meta({ format: "date-time", example: "2026-03-01T10:15:31.204518Z" });

/** A timestamp in an answer: RFC 3339, UTC, exactly the stored value. */
export const timestampOut = () => z.string().meta({ format: "date-time" });

type Part = "body" | "params" | "querystring" | "headers";

// Row 2 of turns.md §4.2: a path or query value is a bad request, a body field is unprocessable.
const refusalOf: Record<Part, { status: number; title: string; detail: string }> = {
  body: { status: 422, title: "Unprocessable Content", detail: "A field is missing or of the wrong type." },
  params: { status: 400, title: "Bad Request", detail: "A path parameter is malformed." },
  querystring: { status: 400, title: "Bad Request", detail: "A query parameter is malformed." },
  headers: { status: 400, title: "Bad Request", detail: "A header is malformed." },
};

const maxFieldErrors = 50;

const fieldName = (path: readonly PropertyKey[]): string =>
  path
    .map((part, at) => (typeof part === "number" ? `[${part}]` : `${at ? "." : ""}${String(part)}`))
    .join("");

const toFieldError = (issue: z.core.$ZodIssue): FieldError => {
  const missing = issue.code === "invalid_type" && /received undefined$/.test(issue.message);
  return {
    field: fieldName(issue.path),
    message: missing ? "is required" : issue.message.replace(/^Invalid (?:input|option|string): /, ""),
  };
};

/** The refusal for input that its schema does not accept, with one entry per field (api.md §1.4). */
export const validationError = (error: z.core.$ZodError, part: Part): AppError =>
  new AppError("invalid_request", {
    ...refusalOf[part],
    errors: error.issues.slice(0, maxFieldErrors).map(toFieldError),
  });

const isPart = (part: string | undefined): part is Part => part !== undefined && part in refusalOf;

/** Validates every part of a request with its zod schema; a mismatch is `invalid_request`. */
export const validatorCompiler: FastifySchemaCompiler<z.ZodType> = ({ schema, httpPart }) => {
  const part = isPart(httpPart) ? httpPart : "headers";
  return (input: unknown) => {
    const result = z.safeParse(schema, input);
    return result.success ? { value: result.data } : { error: validationError(result.error, part) };
  };
};
