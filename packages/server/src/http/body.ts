import type { IncomingMessage } from "node:http";
import { AppError } from "../errors.ts";

const jsonMediaType = /^application\/(?:json|[\w!#$&^.+-]+\+json)$/i;
const charsetParameter = /;\s*charset\s*=\s*"?([^";\s]*)"?/i;

/**
 * Refuses a body that is not JSON by its header (api.md §1.4): other or no media type, or a charset
 * that is not UTF-8. Throws 415 `invalid_request`.
 */
export const requireJsonMediaType = (contentType: string | undefined): void => {
  const mediaType = (contentType ?? "").split(";", 1)[0]?.trim() ?? "";
  const charset = charsetParameter.exec(contentType ?? "")?.[1] ?? "utf-8";
  if (jsonMediaType.test(mediaType) && /^utf-?8$/i.test(charset)) return;
  throw new AppError("invalid_request", {
    status: 415,
    title: "Unsupported Media Type",
    detail: "The body must be application/json in UTF-8.",
  });
};

const tooLarge = (limit: number): AppError =>
  new AppError("body_too_large", { detail: `The body is larger than ${limit} bytes.` });

/** Reads a body of at most `limit` bytes. Throws 413 `body_too_large` and keeps nothing of it. */
export const readBody = async (request: IncomingMessage, limit: number): Promise<Buffer> => {
  if (Number(request.headers["content-length"] ?? 0) > limit) {
    request.resume();
    throw tooLarge(limit);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  return await new Promise((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > limit) finish(() => reject(tooLarge(limit)));
      else chunks.push(chunk);
    };
    const onEnd = (): void => finish(() => resolve(Buffer.concat(chunks, size)));
    const onBroken = (): void =>
      finish(() => reject(new AppError("invalid_request", { detail: "The body ended early." })));
    const finish = (settle: () => void): void => {
      request.off("data", onData).off("end", onEnd).off("error", onBroken).off("close", onBroken);
      // The rest is thrown away: a client still sending could not read the answer otherwise.
      request.on("error", () => {}).resume();
      settle();
    };
    request.on("data", onData).on("end", onEnd).on("error", onBroken).on("close", onBroken);
  });
};

// Every operation's body has a few dozen values; a body of tiny ones would stop all streams for seconds.
const maxValues = 10_000;

const [quote, backslash, comma, brace, bracket] = ['"', "\\", ",", "{", "["].map((sign) =>
  sign.charCodeAt(0),
);

/** Whether a JSON text holds at most `maxValues` values, nested ones included; looks at each byte once. */
const isSparse = (body: Uint8Array): boolean => {
  if (body.length <= maxValues) return true;
  let values = 1;
  let inString = false;
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at];
    if (inString) {
      if (byte === backslash) at += 1;
      else if (byte === quote) inString = false;
    } else if (byte === quote) inString = true;
    else if ((byte === comma || byte === brace || byte === bracket) && ++values > maxValues) return false;
  }
  return true;
};

const badJson = (detail: string): AppError => new AppError("invalid_request", { detail });

/**
 * The JSON value of a body, with null members of objects left out: null in an optional field is the
 * same as absent (api.md §1.4). Throws 400 `invalid_request` for anything but UTF-8 JSON, for more
 * than 10 000 values, and for strings that are no valid Unicode or contain U+0000.
 */
export const parseJsonBody = (body: Uint8Array): unknown => {
  if (!isSparse(body)) throw badJson(`The body holds more than ${maxValues} values.`);
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw badJson("The body is not valid UTF-8.");
  }
  try {
    value = JSON.parse(text);
  } catch {
    throw badJson("The body is not valid JSON.");
  }
  // Without an escape every string is a part of valid UTF-8, and JSON forbids a bare U+0000.
  return cleanTree(value, text.includes("\\u"));
};

const checkText = (text: string): void => {
  if (isCleanText(text)) return;
  throw badJson("Strings must be valid Unicode without U+0000.");
};

/** Whether a text from a client is valid Unicode without U+0000. */
export const isCleanText = (text: string): boolean => text.isWellFormed() && !text.includes("\0");

// Not recursive: a client decides how deep the tree is.
const cleanTree = (root: unknown, checkStrings: boolean): unknown => {
  const pending: unknown[] = [root];
  while (pending.length > 0) {
    const value = pending.pop();
    if (typeof value === "string" && checkStrings) checkText(value);
    if (typeof value !== "object" || value === null) continue;
    if (Array.isArray(value)) {
      for (const item of value) pending.push(item);
      continue;
    }
    for (const [key, member] of Object.entries(value)) {
      if (checkStrings) checkText(key);
      if (member === null) Reflect.deleteProperty(value, key);
      else pending.push(member);
    }
  }
  return root;
};
