import { z } from "zod";

/** Parts of payload readers (outbox.md §4): unknown keys are ignored, an absent key passes for null. */

/** A lower-case, hyphenated UUID. */
export const wireUuid = z
  .string()
  .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, "not a uuid");

/** RFC 3339 in UTC with `Z`, any number of fraction digits. */
export const wireTimestamp = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$/, "not an RFC 3339 time in UTC");

/** An unsigned 64-bit integer, which on this wire is a safe integer. */
export const wireUint = z.int().min(0);

/** A key that may be null or absent; both read as null. */
export const orNull = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value) => value ?? null);

/** A key that is left out when empty; null reads as absent. */
export const orAbsent = <T extends z.ZodType>(schema: T) =>
  schema.nullish().transform((value) => value ?? undefined);

/**
 * A time as payloads carry it: RFC 3339 in UTC with exactly three fraction digits, cut, never rounded
 * (a rounded time could lie after the row's own).
 */
export const wireMillis = (timestamp: string): string => {
  const match = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d+))?Z$/.exec(timestamp);
  if (match === null) throw new TypeError(`not an RFC 3339 time in UTC: ${timestamp.slice(0, 40)}`);
  return `${match[1]}.${(match[2] ?? "").slice(0, 3).padEnd(3, "0")}Z`;
};

/** An int64 as a JSON number; throws RangeError outside the safe integers (outbox.md §4). */
export const wireInt = (value: bigint | number): number => {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new RangeError(`not a safe integer: ${value}`);
  return number;
};

/** A payload that will never be readable. The text tells where, never what stands there. */
export class UnreadableEventError extends Error {
  override name = "UnreadableEventError";
}

/** A payload with a value this program does not know: a newer one may have written it (outbox.md §13). */
export class UnknownEventError extends Error {
  override name = "UnknownEventError";
}

/**
 * Reads a payload by its schema. Throws `UnknownEventError` when all that is wrong are texts outside
 * their lists, `UnreadableEventError` for anything else: not JSON, a missing key, a wrong type.
 */
export const readPayload = <T>(schema: z.ZodType<T>, payload: string): T => {
  let json: unknown;
  try {
    json = JSON.parse(payload);
  } catch {
    // The error of the parser quotes the payload.
    throw new UnreadableEventError("not JSON");
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  const path = issues[0]?.path.join(".") ?? "";
  if (issues.every((issue) => isUnknownText(json, issue))) {
    const value = String(valueAt(json, issues[0]?.path ?? []));
    // A name tells the operator what is missing here; anything else might be text.
    throw new UnknownEventError(`unknown ${path}${/^[a-z0-9_.]{1,64}$/.test(value) ? ` ${value}` : ""}`);
  }
  throw new UnreadableEventError(`${path}: ${issues[0]?.message ?? "invalid"}`);
};

const isUnknownText = (json: unknown, issue: z.core.$ZodIssue): boolean =>
  (issue.code === "invalid_value" || issue.code === "invalid_union") &&
  typeof valueAt(json, issue.path) === "string";

const valueAt = (json: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined),
    json,
  );
