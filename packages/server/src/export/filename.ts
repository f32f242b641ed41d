const maxLength = 80;

/** Characters a file name must not have on some system, and those that make it look like another. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be in a name
const unsafe = /[\u0000-\u001f\u007f-\u009f"*/:<>?\\|\p{Cf}\p{Co}\p{Cn}\u2028\u2029]+/gu;

// `encodeURIComponent` leaves these, which are no attr-char of RFC 8187.
const encoded = (text: string): string =>
  encodeURIComponent(text).replace(
    /['()*!]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/**
 * `Content-Disposition` of an exported chat: a download named after the title, in ASCII for old clients and
 * whole for others. No title can leave the header, name a directory or hide its extension.
 */
export const dispositionOf = (title: string | null, chatId: string, extension: "md" | "json"): string => {
  const points = [...(title ?? "").replace(unsafe, " ")].slice(0, maxLength).join("");
  const name = points.replace(/\s+/gu, " ").replace(/^[\s.]+|[\s.]+$/gu, "") || `chat-${chatId}`;
  const ascii = name
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .replace(/[^\w.-]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "");
  const fallback = ascii || `chat-${chatId}`;
  return `attachment; filename="${fallback}.${extension}"; filename*=UTF-8''${encoded(`${name}.${extension}`)}`;
};
