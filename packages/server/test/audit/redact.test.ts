import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  cleanText,
  maxTextBytes,
  type RedactionPattern,
  redact,
  truncateText,
} from "../../src/audit/redact.ts";

const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

const rows: [RedactionPattern, string, string][] = [
  [
    "pem_private_key",
    "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
    "a\n[REDACTED_PRIVATE_KEY]\nb",
  ],
  ["pem_private_key", "a -----BEGIN PRIVATE KEY-----\nMIIE", "a [REDACTED_PRIVATE_KEY]"],
  ["bearer_token", "authorization: bearer  abc.DEF-1~+/==", "authorization: Bearer [REDACTED]"],
  ["jwt", `token ${jwt}, then`, "token [REDACTED_JWT], then"],
  ["openai_api_key", "key sk-abcdef0123_-x.", "key [REDACTED_OPENAI_KEY]."],
  ["aws_access_key_id", "AKIAIOSFODNN7EXAMPLE!", "[REDACTED_AWS_ACCESS_KEY_ID]!"],
  ["azure_api_key", "api-key: 0123abcd; next", "api-key: [REDACTED_AZURE_KEY]; next"],
  ["azure_api_key", "ocp-apim-subscription-key:abc", "ocp-apim-subscription-key: [REDACTED_AZURE_KEY]"],
  ["api_key_fields", "https://x/?api_key=abc&y=1", "https://x/?api_key=[REDACTED]&y=1"],
  ["api_key_fields", '{"client_secret": "abc"}', '{"client_secret": "[REDACTED]"}'],
  ["api_key_fields", "x-api-key: abc", "x-api-key: [REDACTED]"],
  ["password_fields", "Password = hunter2, ok", "Password = [REDACTED], ok"],
  ["long_base64_like", `<${"A".repeat(201)}>`, "<…[TRUNCATED_LONG_TOKEN]>"],
];

describe("redaction (outbox.md §4.5)", () => {
  it.each(rows)("%s: %j", (pattern, text, expected) => {
    const hits: string[] = [];
    expect(redact(text, (hit) => hits.push(hit))).toBe(expected);
    expect(hits).toEqual([pattern]);
  });

  it.each([
    ["a run of 200", "A".repeat(200)],
    ["nine characters after sk-", "sk-123456789"],
    ["AKIA within a word", "xAKIAIOSFODNN7EXAMPLE"],
    ["two parts", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0"],
    ["the word alone", "my password is long"],
    ["a public key", "-----BEGIN PUBLIC KEY-----"],
  ])("leaves %s alone", (_name, text) => {
    expect(redact(text)).toBe(text);
  });

  // Pieces of secrets and of replacements, so that random texts come close to every pattern.
  const piece = fc.constantFrom(
    ...rows.flatMap(([, text, expected]) => [text, expected]),
    "Bearer ",
    "password",
    "password=",
    "api_key:",
    "api-key:",
    "[REDACTED]",
    "[REDACTED_JWT]",
    "[REDACTED",
    "eyJ",
    "sk-",
    "-----BEGIN ",
    "PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "AKIA",
    "A".repeat(150),
    " ",
    ".",
    '"',
    "=",
    "…",
    "\n",
  );
  const hostile = fc
    .array(fc.oneof(piece, fc.string({ maxLength: 6 })), { maxLength: 14 })
    .map((all) => all.join(""));

  it("is idempotent for all texts", () => {
    fc.assert(
      fc.property(hostile, (text) => {
        const once = redact(text);
        expect(redact(once)).toBe(once);
      }),
      { numRuns: 3_000 },
    );
  });

  // Quadratic behaviour would take minutes on these; the time limit of the test is the assertion.
  it.each([
    "A",
    "eyJ",
    "eyJ.",
    "sk-",
    "a.b.",
    "Bearer ",
    "password ",
    'password="',
    "api_key:",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    " ",
    "=",
    "[REDACTED",
  ])("is linear on a mebibyte of %j", (unit) => {
    const text = unit.repeat(Math.ceil(1_048_576 / unit.length));
    expect(redact(text).length).toBeGreaterThan(0);
  });
});

describe("truncation (outbox.md §4.5)", () => {
  it("keeps 8192 bytes, suffix included, and cuts on a code-point boundary, for all texts", () => {
    const text = fc.array(fc.constantFrom("a", "é", "€", "😀", "𝄞"), { minLength: 2_000, maxLength: 9_000 });
    fc.assert(
      fc.property(text, (characters) => {
        const whole = characters.join("");
        const cut = truncateText(whole);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(maxTextBytes);
        if (Buffer.byteLength(whole) <= maxTextBytes) {
          expect(cut).toBe(whole);
          return;
        }
        expect(cut.endsWith("…[TRUNCATED]")).toBe(true);
        const kept = cut.slice(0, -"…[TRUNCATED]".length);
        expect(whole.startsWith(kept)).toBe(true);
        expect(kept.isWellFormed()).toBe(true);
        // Nothing more would have fitted.
        const next = [...whole.slice(kept.length, kept.length + 2)][0] ?? "";
        expect(Buffer.byteLength(cut) + Buffer.byteLength(next)).toBeGreaterThan(maxTextBytes);
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    [8_192, 8_192],
    [8_193, 8_192],
  ])("of %i ASCII characters leaves %i bytes", (length, bytes) => {
    expect(Buffer.byteLength(truncateText("a".repeat(length)))).toBe(bytes);
  });

  it("comes after redaction", () => {
    expect(cleanText(`password=${"x".repeat(9_000)}`)).toBe("password=[REDACTED]");
  });
});
