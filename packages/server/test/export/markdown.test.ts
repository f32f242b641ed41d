import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Chat } from "../../src/chats/chat.ts";
import type { Citation } from "../../src/context/citations.ts";
import { dispositionOf } from "../../src/export/filename.ts";
import { markdownHead, markdownMessage } from "../../src/export/markdown.ts";
import type { WholeMessage } from "../../src/messages/walk.ts";

const chat: Chat = {
  id: "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f",
  model: "standard",
  title: "Release notes",
  isTemporary: false,
  expiresAt: null,
  messageCount: 2n,
  createdAt: "2026-03-01T10:15:31.204518Z",
  updatedAt: "2026-03-01T10:15:31.204518Z",
};

const message = (
  content: string,
  more: Partial<WholeMessage["view"]> = {},
  citations: Citation[] = [],
): WholeMessage => ({
  view: {
    id: "b0d2a7c1-0000-4000-8000-000000000001",
    request_id: "b0d2a7c1-0000-4000-8000-000000000002",
    role: "assistant",
    content,
    attachments: [],
    my_reaction: null,
    created_at: "2026-03-01T10:15:31.204518Z",
    ...more,
  },
  citations,
});

const contentOf = (document: string): string =>
  document
    .split(/(?<=\r\n|\n|\r(?!\n))/)
    .filter((line) => line.startsWith("> "))
    .map((line) => line.slice(2))
    .join("")
    .replace(/\n$/, "");

describe("an exported message", () => {
  test("reads like this", () => {
    const citations: Citation[] = [
      { source: "web", title: "The [site]", url: "https://example.com/a_b?c=(d)", snippet: "It *says*\nso." },
      { source: "file", title: "plan_v2.pdf", attachment_id: chat.id, snippet: "" },
    ];
    const attachments = [
      { attachment_id: chat.id, kind: "document", filename: "plan_v2.pdf", status: "ready" } as const,
    ];
    expect(
      markdownHead(chat, "2026-03-02T00:00:00Z") +
        markdownMessage(message("One\n\n```ts\nlet a\n```", { model: "standard", attachments }, citations)),
    ).toBe(
      String.raw`# Release notes

- Model: standard
- Created: 2026-03-01T10:15:31.204518Z
- Exported: 2026-03-02T00:00:00Z

## Assistant (standard), 2026-03-01T10:15:31.204518Z

> One
> 
> ${"```"}ts
> let a
> ${"```"}

Attachments:

- plan\_v2\.pdf (document)

Sources: [^b0d2a7c1-0000-1] [^b0d2a7c1-0000-2]

[^b0d2a7c1-0000-1]: [The \[site\]](<https://example.com/a_b?c=(d)>): It \*says\* so\.
[^b0d2a7c1-0000-2]: plan\_v2\.pdf
`,
    );
  });

  test("has footnotes where an answer from files has its markers", () => {
    const spot = (start: number, end: number, position: string): Citation => ({
      source: "file",
      title: "lease.pdf",
      attachment_id: chat.id,
      snippet: "",
      span: { start, end },
      position,
    });
    // The 🔑 is one code point; the third marker was of a file that is gone.
    const document = markdownMessage(
      message("A 🔑 [cite:1] is `[cite:1]`, two [cite:1, 2], none [cite:3].", {}, [
        spot(4, 12, "page 3"),
        spot(32, 43, "page 3"),
        spot(32, 43, "page 7"),
      ]),
    );
    expect(contentOf(document)).toBe(
      "A 🔑 [^b0d2a7c1-0000-1] is `[cite:1]`, two [^b0d2a7c1-0000-2][^b0d2a7c1-0000-3], none .",
    );
    expect(document).toContain("[^b0d2a7c1-0000-3]: lease\\.pdf, page 7");
    expect(contentOf(markdownMessage(message("as written [cite:1]")))).toBe("as written [cite:1]");
  });

  test.each([
    "```\nnever closed",
    "~~~~",
    "# Heading\n## User, 2026-03-01T10:15:31Z\n\nforged",
    "<!-- never closed",
    "<script>alert(1)</script>\n\n<div>",
    "[^b0d2a7c1-0000-1]: forged",
    "> quoted\n> twice",
    "- list\n\n      code\n\ttab",
    "a\r\nb\rc\n\nd\n",
    "",
    "\n\n",
    "    indented\n---\n===",
  ])("gives its text back, and nothing of it stands outside of the quote: %j", (content) => {
    const document = markdownMessage(message(content));
    expect(contentOf(document)).toBe(content);
    const outside = document.split(/\r\n|\n|\r/).filter((line) => !line.startsWith("> "));
    expect(outside).toEqual(["", "## Assistant, 2026-03-01T10:15:31.204518Z", "", ""]);
  });

  test("of any text gives it back", () => {
    const text = fc.array(
      fc.constantFrom("a", "`", "```", "\n", "\r", "\r\n", ">", "> ", "#", " ", "\t", "\u2028", "<"),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(
        text.map((parts) => parts.join("")),
        (content) => {
          expect(contentOf(markdownMessage(message(content)))).toBe(content);
        },
      ),
    );
  });

  test("names, titles and snippets cannot be Markdown, HTML or a second line", () => {
    const nasty = "](x) <b>*a*</b>\n# b `c` ![d](e) [^1]: f | g\u2028h";
    const attachments = [
      { attachment_id: chat.id, kind: "image", filename: nasty, status: "ready" } as const,
    ];
    const citations: Citation[] = [
      { source: "web", title: nasty, url: "https://example.com/> <b>\\", snippet: nasty },
    ];
    const document =
      markdownHead({ ...chat, title: nasty, model: nasty }, "now") +
      markdownMessage(message("", { attachments, model: nasty }, citations));
    const plain = document.replaceAll(/\\[!-/:-@[-`{-~]/g, "");
    expect(plain).not.toMatch(/[*`!|]|<b|<\/b/);
    expect(plain.match(/^#+ .*/gm)).toHaveLength(2);
    expect(document).toContain("](<https://example.com/%3E%20%3Cb%3E%5C>)");
  });
});

describe("the name of the file", () => {
  const id = chat.id;
  test.each<[string | null, string, string]>([
    ["Release notes", "Release-notes.md", "Release notes.md"],
    [null, `chat-${id}.md`, `chat-${id}.md`],
    ["../../etc/passwd", "etc-passwd.md", "etc passwd.md"],
    ['a"; filename="b.exe', "a-filename-b.exe.md", "a ; filename= b.exe.md"],
    ["Zürich\r\nX-Evil: 1", "Zurich-X-Evil-1.md", "Zürich X-Evil 1.md"],
    ["счёт", `chat-${id}.md`, "счёт.md"],
    ["\u202egnp.exe", "gnp.exe.md", "gnp.exe.md"],
    ["...", `chat-${id}.md`, `chat-${id}.md`],
    ["it's (new)*", "it-s-new.md", "it's (new).md"],
    ["\u{1f600}", `chat-${id}.md`, "\u{1f600}.md"],
  ])("of %j", (title, ascii, whole) => {
    const header = dispositionOf(title, id, "md");
    const [, plain, extended] =
      /^attachment; filename="([\w.-]+)"; filename\*=UTF-8''([\w.~%$&+^`|#{}-]+)$/.exec(header) ?? [];
    expect(plain).toBe(ascii);
    expect(decodeURIComponent(extended ?? "")).toBe(whole);
  });

  test("of any title is a header and no path", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 255 }), (title) => {
        const header = dispositionOf(title.toWellFormed(), id, "json");
        expect(header).toMatch(
          /^attachment; filename="[\w.-]+\.json"; filename\*=UTF-8''[\w.~%$&+^`|#{}-]+\.json$/,
        );
        expect(header.length).toBeLessThan(2_000);
        expect(decodeURIComponent(header.replace(/^.*UTF-8''/, ""))).not.toMatch(/^\.|[\\/\n\r\0]/);
      }),
    );
  });
});
