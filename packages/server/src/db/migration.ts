import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The migrations of this program, beside the packages. */
export const migrationsDir: string = fileURLToPath(new URL("../../../../migrations", import.meta.url));

export type MigrationFailure =
  | "invalid_files"
  | "unsupported_server"
  | "lock_timeout"
  | "no_session_locks"
  | "checksum_mismatch"
  | "schema_behind"
  | "schema_newer"
  | "statement_failed";

/** The schema is not what this program needs and cannot be made so; the process exits with 3 (ops.md §1). */
export class MigrationError extends Error {
  override name = "MigrationError";
  readonly reason: MigrationFailure;

  constructor(reason: MigrationFailure, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** One file of the migrations directory, `NNNN_name.sql`. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hexadecimal. */
  readonly checksum: string;
}

/** A row of `schema_migrations`. */
export interface AppliedMigration {
  readonly version: number;
  readonly name: string;
  readonly checksum: string;
}

const fileName = /^(\d{4})_([a-z0-9_]+)\.sql$/;

/** Reads and checks the directory: every `.sql` file is numbered, from 1, without gaps (data.md §7). */
export const readMigrations = async (dir: string): Promise<Migration[]> => {
  const names = (await readdir(dir)).filter((name) => name.endsWith(".sql")).sort();
  return Promise.all(
    names.map(async (name, index): Promise<Migration> => {
      const match = fileName.exec(name);
      const version = Number(match?.[1]);
      if (match?.[2] === undefined || version !== index + 1) {
        throw new MigrationError(
          "invalid_files",
          `migration ${name}: expected NNNN_name.sql with number ${index + 1}`,
        );
      }
      const bytes = await readFile(join(dir, name));
      const checksum = createHash("sha256").update(bytes).digest("hex");
      return { version, name: match[2], sql: bytes.toString("utf8"), checksum };
    }),
  );
};

/** Migrations named so only add: the previous release runs on them as well (data.md §7). */
const isExpansion = (migration: AppliedMigration): boolean => migration.name.startsWith("expand_");

/**
 * The files still to be applied, in order. Throws when an applied file was changed, and when the
 * schema is newer than this program by more than expansions (`NNNN_expand_….sql`).
 */
export const pendingMigrations = (
  files: readonly Migration[],
  applied: readonly AppliedMigration[],
): Migration[] => {
  for (const row of applied) {
    const file = files[row.version - 1];
    if (file === undefined) {
      if (isExpansion(row)) continue;
      throw new MigrationError(
        "schema_newer",
        `the database has migration ${row.version} (${row.name}), this program knows ${files.length}`,
      );
    }
    if (file.checksum !== row.checksum) {
      throw new MigrationError(
        "checksum_mismatch",
        `migration ${file.version} (${file.name}) was changed after it had been applied`,
      );
    }
  }
  const done = new Set(applied.map((row) => row.version));
  return files.filter((file) => !done.has(file.version));
};

/** Whether the file asks to run outside a transaction (`-- no-transaction` on its first line). */
export const runsWithoutTransaction = (migration: Migration): boolean =>
  /^-- no-transaction\b/.test(migration.sql);

/**
 * The statements of a file that runs outside a transaction; each ends with a semicolon at the end of
 * a line. (Several statements sent as one text would share an implicit transaction.)
 */
export const splitStatements = (migration: Migration): string[] => {
  if (migration.sql.includes("$$")) {
    throw new MigrationError(
      "invalid_files",
      `migration ${migration.version} (${migration.name}): no function bodies without a transaction`,
    );
  }
  const code = migration.sql.replace(/^\s*--.*$/gm, "");
  return code
    .split(/;[ \t]*(?:\n|$)/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
};
