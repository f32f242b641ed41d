import { z } from "zod";
import { AppError } from "../errors.ts";
import type { DeadPosition } from "./dead-letter.ts";

// PostgreSQL has no year 0.
const shape = z.tuple([z.iso.datetime().regex(/^(?!0000)/), z.string().regex(/^\d{1,18}$/)]);

/** The opaque cursor of a list of dead letters: its page ends at this row. */
export const encodePosition = ({ lastFailedAt, id }: DeadPosition): string =>
  Buffer.from(JSON.stringify([lastFailedAt, id.toString()])).toString("base64url");

/** Throws 400 `invalid_cursor` for what `encodePosition` did not make. */
export const decodePosition = (text: string): DeadPosition => {
  try {
    const [lastFailedAt, id] = shape.parse(JSON.parse(Buffer.from(text, "base64url").toString("utf8")));
    return { lastFailedAt, id: BigInt(id) };
  } catch (cause) {
    throw new AppError("invalid_cursor", { detail: "The cursor cannot be read.", cause });
  }
};
