/** A programmed value is not as documented. The message names the place. */
export class InvalidInput extends Error {
  override name = "InvalidInput";
}

/** Returns the value as `T`, or throws `InvalidInput` naming `path`. */
export type Check<T> = (value: unknown, path: string) => T;

export const text: Check<string> = (value, path) =>
  typeof value === "string" ? value : refuse(path, "must be a string");

export const flag: Check<boolean> = (value, path) =>
  typeof value === "boolean" ? value : refuse(path, "must be true or false");

export const anything: Check<unknown> = (value) => value;

const MAX_DELAY_MS = 86_400_000;

export const milliseconds: Check<number> = (value, path) =>
  typeof value === "number" && value >= 0 && value <= MAX_DELAY_MS
    ? value
    : refuse(path, `must be a number from 0 to ${MAX_DELAY_MS}`);

export const integer =
  (min: number, max: number): Check<number> =>
  (value, path) =>
    typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
      ? value
      : refuse(path, `must be a whole number from ${min} to ${max}`);

export const count = integer(0, 1_000_000_000);

export const oneOf =
  <const T extends string>(...words: readonly T[]): Check<T> =>
  (value, path) =>
    words.find((word) => word === value) ?? refuse(path, `must be one of ${words.join(", ")}`);

export const list =
  <T>(item: Check<T>): Check<readonly T[]> =>
  (value, path) =>
    Array.isArray(value)
      ? value.map((entry: unknown, at) => item(entry, `${path}[${at}]`))
      : refuse(path, "must be a list");

/** The first of the checks that accepts; when none does, `expected` is the complaint. */
export const either =
  <T>(expected: string, ...checks: readonly Check<T>[]): Check<T> =>
  (value, path) => {
    for (const check of checks) {
      try {
        return check(value, path);
      } catch (error) {
        if (!(error instanceof InvalidInput)) throw error;
      }
    }
    return refuse(path, expected);
  };

export const record: Check<Readonly<Record<string, unknown>>> = (value, path) =>
  isRecord(value) ? value : refuse(path, "must be an object");

export const recordOf =
  <T>(item: Check<T>): Check<Readonly<Record<string, T>>> =>
  (value, path) =>
    Object.fromEntries(
      Object.entries(record(value, path)).map(([key, entry]) => [key, item(entry, join(path, key))]),
    );

type Fields<T> = { readonly [K in keyof T]-?: Check<Exclude<T[K], undefined>> };

/** An object of these fields and no others; those not named in `required` may be missing. */
export const object =
  <T extends object>(fields: Fields<T>, ...required: readonly (keyof T & string)[]): Check<T> =>
  (value, path) => {
    const given = record(value, path);
    for (const key of required) {
      if (given[key] === undefined) refuse(join(path, key), "is missing");
    }
    const checked: Record<string, unknown> = {};
    for (const [key, entry] of Object.entries(given)) {
      if (!Object.hasOwn(fields, key)) {
        refuse(join(path, key), `is unknown; known are ${Object.keys(fields).join(", ")}`);
      }
      if (entry === undefined) continue;
      checked[key] = fields[key as keyof T](entry, join(path, key));
    }
    return checked as T;
  };

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export const refuse = (path: string, problem: string): never => {
  throw new InvalidInput(`${path} ${problem}`);
};

const join = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`);
