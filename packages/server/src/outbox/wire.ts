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
