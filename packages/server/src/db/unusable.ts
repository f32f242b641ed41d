/** The database cannot be used as it is configured; the process exits with 3 (ops.md §1). */
export class DatabaseError extends Error {
  override name = "DatabaseError";
}

/** An error without a cause of its own kind, such as a refused `sslmode`, as one of the database. */
export const asDatabaseError = (error: unknown): DatabaseError =>
  new DatabaseError(`the database cannot be used: ${textOf(error)}`, { cause: error });

/** A host of several addresses that all refuse is told by its code only. */
const textOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error);
  return error.message || ("code" in error ? String(error.code) : error.name);
};
