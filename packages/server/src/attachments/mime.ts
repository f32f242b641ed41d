import { extensionOf } from "./filename.ts";

export type AttachmentKind = "document" | "image";

/** What the first bytes of a file must show (attachments.md §5). */
export type Content = "png" | "jpeg" | "gif" | "webp" | "pdf" | "zip" | "text";

/** A media type that may be uploaded. */
export interface FileType {
  readonly mime: string;
  readonly kind: AttachmentKind;
  /** Of the name the provider sees. */
  readonly extension: string;
  /** What a document is for; null for images. */
  readonly purpose: "file_search" | "code_interpreter" | null;
  readonly content: Content;
}

const office = "application/vnd.openxmlformats-officedocument";

const text = (mime: string, extension: string): FileType => ({
  mime,
  kind: "document",
  extension,
  purpose: "file_search",
  content: "text",
});

const image = (content: "png" | "jpeg" | "gif" | "webp", extension: string): FileType => ({
  mime: `image/${content}`,
  kind: "image",
  extension,
  purpose: null,
  content,
});

/** The 21 types of attachments.md §5, in its order. */
export const fileTypes: readonly FileType[] = [
  { mime: "application/pdf", kind: "document", extension: "pdf", purpose: "file_search", content: "pdf" },
  text("text/plain", "txt"),
  text("text/markdown", "md"),
  text("text/html", "html"),
  {
    mime: `${office}.wordprocessingml.document`,
    kind: "document",
    extension: "docx",
    purpose: "file_search",
    content: "zip",
  },
  {
    mime: `${office}.presentationml.presentation`,
    kind: "document",
    extension: "pptx",
    purpose: "file_search",
    content: "zip",
  },
  {
    mime: `${office}.spreadsheetml.sheet`,
    kind: "document",
    extension: "xlsx",
    purpose: "code_interpreter",
    content: "zip",
  },
  text("application/json", "json"),
  text("text/x-python", "py"),
  text("text/x-java", "java"),
  text("text/javascript", "js"),
  text("text/typescript", "ts"),
  text("text/x-rust", "rs"),
  text("text/x-go", "go"),
  text("text/x-csharp", "cs"),
  text("text/x-ruby", "rb"),
  text("text/x-sql", "sql"),
  image("png", "png"),
  image("jpeg", "jpg"),
  image("webp", "webp"),
  image("gif", "gif"),
];

/** Its rows say nothing in a summary: it never gets one (attachments.md §15). */
export const isSpreadsheet = ({ extension }: FileType): boolean => extension === "xlsx";

const byMime: ReadonlyMap<string, FileType> = new Map(fileTypes.map((type) => [type.mime, type]));

const furtherExtensions = {
  markdown: "text/markdown",
  htm: "text/html",
  mjs: "text/javascript",
  mts: "text/typescript",
  jpeg: "image/jpeg",
  csv: "text/csv",
};

const byExtension: ReadonlyMap<string, string> = new Map([
  ...fileTypes.map((type): [string, string] => [type.extension, type.mime]),
  ...Object.entries(furtherExtensions),
]);

/** The type of an image by what it is, whatever it was declared as. */
export const imageType = (content: Content): FileType | undefined =>
  fileTypes.find((type) => type.kind === "image" && type.content === content);

const unspecific = "application/octet-stream";

/**
 * The type a part declares (attachments.md §5): its media type without parameters, inferred from the
 * name where that says nothing. `type` is null when it may not be uploaded; `mime` is what was looked up.
 */
export const declaredType = (
  contentType: string,
  filename: string,
  options: { readonly allowCsv: boolean },
): { readonly mime: string; readonly type: FileType | null } => {
  const normalized = (contentType.split(";", 1)[0] ?? "").trim().toLowerCase();
  const inferred = normalized === unspecific ? byExtension.get(extensionOf(filename) ?? "") : undefined;
  const found = inferred ?? normalized;
  const mime = found === "text/csv" && options.allowCsv ? "text/plain" : found;
  return { mime, type: byMime.get(mime) ?? null };
};
