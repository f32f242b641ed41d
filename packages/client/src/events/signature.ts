import { createHmac, timingSafeEqual } from "node:crypto";

export const signatureHeader = "mini-chat-signature";

export interface SignedRequest {
  /** `plugins.usage.secret` or `plugins.audit.secret` of the server; several while one replaces another. */
  readonly secrets: readonly string[];
  /** The value of the header `mini-chat-signature`. */
  readonly header: string | undefined;
  /** The body as it was received: parsed and written again it may be another text. */
  readonly body: string | Uint8Array;
  /** How far the signed time may be from now, in seconds. Default 300. */
  readonly toleranceSecs?: number;
  /** Milliseconds since 1970; default the clock. */
  readonly now?: number;
}

/** Why a request is not to be believed. */
export type SignatureFailure = "missing" | "malformed" | "expired" | "mismatch";

/**
 * Null when one of the secrets signed this body within the tolerance, else why not. Every attempt of a
 * delivery is signed anew, so a request older than the tolerance is a recording. Compares in constant time.
 */
export const verifySignature = (request: SignedRequest): SignatureFailure | null => {
  const { secrets, header, body, toleranceSecs = 300, now = Date.now() } = request;
  if (header === undefined || header === "") return "missing";
  const parts = header.split(",").map((part) => part.trim().split("=", 2));
  const time = parts.find(([name]) => name === "t")?.[1];
  const given = parts.flatMap(([name, value]) => (name === "v1" && value !== undefined ? [value] : []));
  if (time === undefined || !/^\d{1,12}$/.test(time) || given.length === 0) return "malformed";
  const signedBy = (secret: string): boolean => {
    const expected = createHmac("sha256", secret).update(`${time}.`).update(body).digest();
    return given.some((value) => {
      const bytes = Buffer.from(value, "hex");
      return bytes.length === expected.length && timingSafeEqual(bytes, expected);
    });
  };
  if (!secrets.some(signedBy)) return "mismatch";
  return Math.abs(now / 1_000 - Number(time)) > toleranceSecs ? "expired" : null;
};
