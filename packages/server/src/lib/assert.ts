/** A broken invariant: a bug in this program, never a condition a caller could handle. */
export class InvariantError extends Error {
  override name = "InvariantError";
}

/** Throws `InvariantError` unless the condition holds. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For the default branch of an exhaustive switch: compiles only when every case is handled. */
export const unreachable = (value: never): never => {
  throw new InvariantError(`unreachable: ${String(value)}`);
};
