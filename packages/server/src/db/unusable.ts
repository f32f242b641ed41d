/** The database cannot be used as it is configured; the process exits with 3 (ops.md §1). */
export class DatabaseError extends Error {
  override name = "DatabaseError";
}

/** An error without a cause of its own kind, such as a refused `sslmode`, as one of the database. */
export const asDatabaseError = (error: unknown): DatabaseError =>
  new DatabaseError(
    `the database cannot be used: ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  );
