/** What never reaches a log line (ops.md §6): secrets and text of users or models, by the name of the field. */
const forbiddenKeys = new Set([
  "authorization",
  "cookie",
  "set_cookie",
  "x_api_key",
  "api_key",
  "password",
  "secret",
  "client_secret",
  "token",
  "access_token",
  "admin_token",
  "api_token",
  "content",
  "prompt",
  "system_prompt",
  "instructions",
  "question",
  "answer",
  "response_text",
  "text",
  "delta",
  "summary",
  "doc_summary",
  "title",
  "filename",
  "file_name",
  "snippet",
  "headers",
]);

// Provider bodies may echo the prompt; other strings are cut because users control some of them.
const bodyKeys = new Set(["body", "provider_body", "response_body"]);
const maxBodyChars = 200;
const maxTextChars = 500;
const maxStackChars = 4_000;
const maxDepth = 5;
const maxItems = 50;

const redacted = "[redacted]";

const credentials =
  /\b(?:bearer\s+[\w.~+/=-]+|sk-[\w-]{10,}|eyJ[\w-]+\.[\w-]+\.[\w-]*)|\/\/[^\s/@:]*:[^\s/@]+@/gi;

/** The text without credentials, at most `limit` characters. */
export const cleanText = (text: string, limit: number = maxTextChars): string => {
  // Cut first: the pattern then runs over a bounded text, however long the original was.
  const short = text.length > limit ? `${text.slice(0, limit)}…` : text;
  return short.replace(credentials, redacted);
};

// `contentLength` and `systemPrompt` are compared as `content_length` and `system_prompt`.
const normalizeKey = (key: string): string =>
  key
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll("-", "_")
    .toLowerCase();

const cleanValue = (key: string, value: unknown, depth: number): unknown => {
  const name = normalizeKey(key);
  if (forbiddenKeys.has(name) && (typeof value === "string" || typeof value === "object") && value !== null) {
    return redacted;
  }
  if (typeof value === "string") return cleanText(value, bodyKeys.has(name) ? maxBodyChars : maxTextChars);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Error) return cleanError(value, depth);
  if (depth >= maxDepth) return "[deep]";
  if (Array.isArray(value)) return value.slice(0, maxItems).map((item) => cleanValue("", item, depth + 1));
  // Own serialisation wins: a configured secret prints itself as ***.
  if ("toJSON" in value && typeof value.toJSON === "function")
    return cleanValue("", value.toJSON(), depth + 1);
  return cleanObject(value, depth + 1);
};

const cleanObject = (fields: object, depth: number): Record<string, unknown> => {
  const clean: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields).slice(0, maxItems)) {
    clean[key] = cleanValue(key, value, depth);
  }
  return clean;
};

/** An error by type, message, code and stack; other own fields (rows, requests, bodies) are left out. */
const cleanError = (error: Error, depth: number): Record<string, unknown> => ({
  type: error.name,
  message: cleanText(error.message),
  ...("code" in error && typeof error.code === "string" ? { code: error.code } : {}),
  ...(error.stack === undefined ? {} : { stack: cleanText(error.stack, maxStackChars) }),
  ...(error.cause === undefined || depth >= maxDepth
    ? {}
    : {
        cause:
          error.cause instanceof Error ? cleanError(error.cause, depth + 1) : cleanText(String(error.cause)),
      }),
});

/** The fields as they may be logged: secrets and content replaced, strings cut, errors flattened. Never throws. */
export const cleanFields = (fields: object): Record<string, unknown> => {
  try {
    return fields instanceof Error ? { err: cleanError(fields, 0) } : cleanObject(fields, 0);
  } catch {
    return { log_fields: "[unreadable]" };
  }
};
