import { type Content, type FileType, imageType } from "./mime.ts";

/** Bytes `sniffedType` wants to see of a longer file. */
export const sniffedBytes = 1_024;
const textWindow = 512;

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

// Six signatures that do not change; a detector of hundreds of formats would be a parser more for hostile bytes.
const signatures: readonly (readonly [content: Content, matches: (head: Buffer) => boolean])[] = [
  ["png", (head) => startsWith(head, bytes("\x89PNG\r\n\x1a\n"))],
  ["jpeg", (head) => startsWith(head, bytes("\xff\xd8\xff"))],
  ["gif", (head) => startsWith(head, bytes("GIF87a")) || startsWith(head, bytes("GIF89a"))],
  ["webp", (head) => startsWith(head, bytes("RIFF")) && startsWith(head.subarray(8), bytes("WEBP"))],
  ["zip", (head) => startsWith(head, bytes("PK\x03\x04"))],
];

const startsWith = (head: Buffer, signature: Buffer): boolean =>
  head.subarray(0, signature.length).equals(signature);

const binaryContent = (head: Buffer): Content | null =>
  signatures.find(([, matches]) => matches(head))?.[0] ?? null;

/**
 * The type a file really has, by its first 1024 bytes, fewer if it is shorter (attachments.md §5): the
 * declared one, another allowed image type for an image, or null when the content is something else.
 */
export const sniffedType = (declared: FileType, head: Buffer): FileType | null => {
  if (declared.kind === "image") {
    const content = binaryContent(head);
    return (content === null ? undefined : imageType(content)) ?? null;
  }
  return isContent(declared.content, head) ? declared : null;
};

const isContent = (content: Content, head: Buffer): boolean => {
  if (content === "text") return !head.subarray(0, textWindow).includes(0);
  if (content === "pdf") return head.subarray(0, sniffedBytes).includes("%PDF-", 0, "latin1");
  return binaryContent(head) === content;
};
