import type { StoredFile } from "../storage/files.ts";
import { ApiError } from "./exchange.ts";

export type Upload = Omit<StoredFile, "id" | "createdAt" | "text">;

export const isForm = (contentType: string | undefined): contentType is string =>
  contentType !== undefined && /^multipart\/form-data/i.test(contentType);

/** Reads a multipart form; null when it is none. */
export const readForm = async (body: Buffer, contentType: string): Promise<FormData | null> => {
  try {
    return await new Response(new Uint8Array(body), { headers: { "content-type": contentType } }).formData();
  } catch {
    return null;
  }
};

/** What is captured of a form: texts as they are, files by name, type and size. */
export const formSummary = (form: FormData): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    [...form].map(([name, value]) => [
      name,
      typeof value === "string"
        ? value
        : { filename: value.name, content_type: value.type, bytes: value.size },
    ]),
  );

/** The upload in a form of the Files API. */
export const readUpload = async (form: FormData): Promise<Upload> => {
  const file = form.get("file");
  if (file === null || typeof file === "string") throw missing("file");
  const purpose = form.get("purpose");
  if (typeof purpose !== "string" || purpose === "") throw missing("purpose");
  return {
    bytes: Buffer.from(await file.arrayBuffer()),
    filename: file.name,
    purpose,
    contentType: file.type === "" ? "application/octet-stream" : file.type,
  };
};

const missing = (field: string): ApiError =>
  new ApiError(400, "missing_required_parameter", `Missing required parameter: '${field}'.`);
