import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { internalDetail, nothingConfidential, sanitizeMessage } from "../../src/providers/sanitize.ts";

const clean = (text: string): string => sanitizeMessage(text, nothingConfidential, "generic");

const idPrefixes = [
  ..."resp_ chatcmpl- cmpl- msg_ file- file_ vs_ batch_ req_ run_ thread_ call_ toolu_ cntr_ rs_ ws_".split(
    " ",
  ),
  ..."fs_ ci_ org- proj_ asst_".split(" "),
];

describe("sanitising (providers.md §7.2)", () => {
  test.each(idPrefixes)("an id beginning with %s", (prefix) => {
    expect(clean(`No item ${prefix}68f0c0FFEE123 was found.`)).toBe("No item [provider_id] was found.");
  });

  test.each([
    ["a URL", "see https://api.openai.com/v1/x?y=1#z now", "see [url] now"],
    ["an http URL in quotes", 'see "http://10.0.0.1:80/a".', 'see "[url]".'],
    ["a key", "key sk-proj-abcdefghijkl_MNO is wrong", "key [credential] is wrong"],
    ["a bearer header", "Authorization: Bearer abc.def-123", "Authorization: [credential]"],
    ["bearer twice", "Bearer bearer abc", "[credential]"],
    ["control characters and line ends", "a\n\tb\u0000c", "a b c"],
    ["nothing left", " \n ", "generic"],
    ["words that only look alike", "users_ask recalls desks-top", "users_ask recalls desks-top"],
  ])("%s", (_name, text, expected) => {
    expect(clean(text)).toBe(expected);
  });

  test("configured hosts, deployment names and credentials in use", () => {
    const confidential = {
      hosts: ["acme.openai.azure.com", "10.1.2.3"],
      deployments: ["gpt-secret-east"],
      secrets: ["0123456789abcdef0123456789abcdef"],
    };
    const text =
      "Acme.openai.azure.com:443 and 10.1.2.3 refused 0123456789abcdef0123456789abcdef for `gpt-secret-east`";
    expect(sanitizeMessage(text, confidential, "")).toBe(
      "[url] and [url] refused [credential] for `[model]`",
    );
  });

  test("cut at 500 characters, never inside one", () => {
    expect(clean("é".repeat(600))).toBe("é".repeat(500));
    expect(clean(`a${"🎉".repeat(300)}`)).toBe(`a${"🎉".repeat(249)}`);
  });

  test("no message matches any pattern, whatever the provider wrote (§12.6)", () => {
    const patterns = [
      /(resp_|chatcmpl-|cmpl-|msg_)[a-z0-9]/i,
      /(?<![a-z0-9])(file[-_]|org-|(vs|batch|req|run|thread|call|toolu|cntr|rs|ws|fs|ci|proj|asst)_)[a-z0-9]/i,
      /https?:\/\//i,
      /sk-[\w-]{10}/i,
      /bearer\s+\S/i,
      /upstream\.example/i,
      /topsecretvalue/,
    ];
    const confidential = { hosts: ["upstream.example"], deployments: ["dep-1"], secrets: ["topsecretvalue"] };
    const word = fc.oneof(
      fc.constantFrom(
        ...idPrefixes,
        "https://",
        "sk-",
        "Bearer ",
        "upstream.example",
        "topsecretvalue",
        "dep-1",
      ),
      fc.constantFrom("a1B2c3", "abcdefghijklm", " ", "\n", "\u0000", "_", "-", "[", "]", '"'),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 20 }), (words) => {
        const message = sanitizeMessage(words.join(""), confidential, "generic");
        for (const pattern of patterns) expect(message).not.toMatch(pattern);
        expect(message.length).toBeLessThanOrEqual(500);
        expect(message).not.toBe("");
      }),
      { numRuns: 5_000 },
    );
  });

  test("the internal detail keeps ids and hosts but no credential", () => {
    const detail = internalDetail("resp_1 at https://h failed with Bearer abc and key-in-use", {
      ...nothingConfidential,
      secrets: ["key-in-use"],
    });
    expect(detail).toBe("resp_1 at https://h failed with [credential] and [credential]");
  });
});
