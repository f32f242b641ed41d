const encodingOf = (bytes: Uint8Array): string | undefined => {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? "utf-8" : undefined;
};

/** The encoding a page names in its first KiB; UTF-8 when it names none that is known. */
export const encodingOfPage = (bytes: Uint8Array): string => {
  const head = Buffer.from(bytes.subarray(0, 1_024)).toString("latin1");
  const label = /<meta[^>]*?charset\s*=\s*["']?([\w-]+)/i.exec(head)?.[1] ?? "utf-8";
  try {
    return new TextDecoder(label).encoding;
  } catch {
    return "utf-8";
  }
};

const sliceBytes = 65_536;

/**
 * The text of a file in pieces: UTF-8 unless a byte order mark or the caller says otherwise, invalid bytes as
 * U+FFFD, without what PostgreSQL cannot store.
 */
export function* decodeText(bytes: Uint8Array, fallback = "utf-8"): Generator<string> {
  const decoder = new TextDecoder(encodingOf(bytes) ?? fallback);
  for (let at = 0; at < bytes.length; at += sliceBytes) {
    const more = at + sliceBytes < bytes.length;
    yield cleanText(decoder.decode(bytes.subarray(at, at + sliceBytes), { stream: more }));
  }
}

/** Without U+0000 and half characters. */
export const cleanText = (text: string): string => text.toWellFormed().replaceAll("\0", "");
