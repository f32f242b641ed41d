import { z } from "zod";
import { type ErrorCode, errorCatalog } from "../errors.ts";
import { problemMediaType } from "./problem.ts";

/** The body of every status ≥ 400 (api.md §5.1). */
export const problemSchema = z
  .object({
    type: z.literal("about:blank"),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string(),
    code: z.enum(Object.keys(errorCatalog) as [ErrorCode, ...ErrorCode[]]),
    trace_id: z.string().optional(),
    errors: z
      .array(z.object({ field: z.string(), message: z.string(), code: z.string().optional() }))
      .optional(),
    context: z.record(z.string(), z.number()).optional(),
    quota_scope: z.enum(["tokens", "web_search", "code_interpreter", "image_inputs", "uploads"]).optional(),
  })
  .meta({ id: "Problem" });

/** Codes with more statuses than the one of the catalog (api.md §5.2). */
const furtherStatuses: Partial<Record<ErrorCode, readonly number[]>> = {
  invalid_filter: [422],
  invalid_orderby: [422],
  invalid_cursor: [422],
};

/** The codes an answer may carry, kept apart from what the framework reads. */
export const codesKey: unique symbol = Symbol("problem codes");

export interface ProblemResponse {
  readonly description: string;
  readonly content: Readonly<Record<string, { readonly schema: z.ZodType }>>;
  readonly [codesKey]: readonly ErrorCode[];
}

/** One response with these codes. */
export const problemResponse = (codes: readonly ErrorCode[]): ProblemResponse => ({
  description: codes.join(", "),
  content: { [problemMediaType]: { schema: problemSchema } },
  [codesKey]: codes,
});

/** These codes by the statuses they come with. */
export const codesByStatus = (codes: readonly ErrorCode[]): Map<number, ErrorCode[]> => {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    for (const status of [errorCatalog[code].status, ...(furtherStatuses[code] ?? [])]) {
      byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
    }
  }
  return byStatus;
};

/**
 * The refusals of an operation, spread into its `response` schema:
 * `response: { 200: chatSchema, ...problems("chat_not_found") }`. Those every operation shares
 * (identity, licence, rate, form of the request) are added by themselves. The type is empty so that
 * the result of the handler is still checked against the success schemas.
 */
export const problems = (...codes: readonly ErrorCode[]): Record<never, never> =>
  Object.fromEntries(
    [...codesByStatus(codes)].map(([status, ofStatus]) => [String(status), problemResponse(ofStatus)]),
  );

/** The response of a stream: any of these event payloads, as `text/event-stream`. */
export const eventStream = (description: string, payloads: readonly [z.ZodType, ...z.ZodType[]]) => ({
  description,
  content: { "text/event-stream": { schema: z.union(payloads) } },
});

/**
 * The 200 of an operation that streams a file in one of these media types, spread into its `response`
 * schema. The type is empty because no schema sees what a stream holds.
 */
export const download = (
  description: string,
  schemas: Readonly<Record<string, z.ZodType>>,
): Record<never, never> => {
  const content = Object.entries(schemas).map(([mediaType, schema]) => [mediaType, { schema }]);
  return { 200: { description, content: Object.fromEntries(content) } };
};

/** The response of an operation that answers 204. */
export const noContent = () => z.undefined().meta({ description: "Done." });
