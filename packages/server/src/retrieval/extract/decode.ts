const encodingOf = (bytes: Uint8Array): string => {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return "utf-8";
};

const sliceBytes = 65_536;

/**
 * The text of a file in pieces: UTF-8 unless a byte order mark says UTF-16, invalid bytes as U+FFFD, without
 * the characters that PostgreSQL cannot store or that say nothing.
 */
export function* decodeText(bytes: Uint8Array): Generator<string> {
  const decoder = new TextDecoder(encodingOf(bytes));
  for (let at = 0; at < bytes.length; at += sliceBytes) {
    const more = at + sliceBytes < bytes.length;
    yield cleanText(decoder.decode(bytes.subarray(at, at + sliceBytes), { stream: more }));
  }
}

/** Without U+0000 and half characters. */
export const cleanText = (text: string): string => text.toWellFormed().replaceAll("\0", "");
