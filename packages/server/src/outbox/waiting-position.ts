import { AppError } from "../errors.ts";

/** The opaque cursor of a list of waiting messages: its page ends at the one with this id. */
export const encodeWaitingPosition = (id: bigint): string => Buffer.from(`${id}`).toString("base64url");

/** Throws 400 `invalid_cursor` for what `encodeWaitingPosition` did not make. */
export const decodeWaitingPosition = (text: string): bigint => {
  const id = Buffer.from(text, "base64url").toString("utf8");
  if (/^\d{1,18}$/.test(id)) return BigInt(id);
  throw new AppError("invalid_cursor", { detail: "The cursor cannot be read." });
};
