import { ConnectionError, errorOf } from "./errors.ts";
import type { Attachment } from "./generated/api.ts";
import { type CallOptions, type Http, whileConnected } from "./http.ts";

export interface UploadProgress {
  /** Bytes of the request that are on their way; a little more than the file. */
  readonly sent: number;
  readonly total: number;
}

export interface UploadOptions extends CallOptions {
  /** The name to store it under; default the file's own. */
  readonly filename?: string | undefined;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
}

/** As much of XMLHttpRequest as is used: the types of Node do not know it. */
interface Xhr {
  readonly upload: { onprogress: ((event: { loaded: number; total: number }) => void) | null };
  readonly status: number;
  readonly responseText: string;
  onload: (() => void) | null;
  onerror: (() => void) | null;
  open(method: string, url: string): void;
  setRequestHeader(name: string, value: string): void;
  getResponseHeader(name: string): string | null;
  send(body: FormData): void;
  abort(): void;
}

const browserXhr = (): (new () => Xhr) | undefined =>
  (globalThis as { readonly XMLHttpRequest?: new () => Xhr }).XMLHttpRequest;

const nameOf = (file: Blob, filename: string | undefined): string =>
  filename ?? ("name" in file && typeof file.name === "string" && file.name !== "" ? file.name : "file");

/** A part without a type is refused; this one is resolved by the file's extension (api.md §8). */
const typeOf = (file: Blob): string => (file.type === "" ? "application/octet-stream" : file.type);

/**
 * Uploads one file as the form of api.md §8. In browsers by XMLHttpRequest, the only one that tells the progress
 * of a body there; elsewhere as a streamed body of fetch, so that a large file is never held as a whole.
 */
export const uploadFile = async (
  http: Http,
  path: string,
  file: Blob,
  options: UploadOptions,
): Promise<Attachment> => {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();
  const name = nameOf(file, options.filename);
  const Request = browserXhr();
  const useXhr = Request !== undefined && http.options.fetch === undefined && onProgress !== undefined;
  const answer = useXhr
    ? await http.authorized(
        (token) => sendByXhr(new Request(), http.urlOf({ path }), token, file, name, options),
        signal,
      )
    : await http.open({ method: "POST", path, raw: formOf(file, name, onProgress), signal });
  if (!answer.ok) throw await errorOf(answer);
  return whileConnected(signal, async () => (await answer.json()) as Attachment);
};

const sendByXhr = (
  request: Xhr,
  url: string,
  token: string,
  file: Blob,
  name: string,
  { signal, onProgress }: UploadOptions,
): Promise<Response> =>
  new Promise((resolve, reject) => {
    const leave = (): void => {
      request.abort();
      reject(signal?.reason);
    };
    const settle = (end: () => void): void => {
      signal?.removeEventListener("abort", leave);
      end();
    };
    signal?.addEventListener("abort", leave, { once: true });
    request.upload.onprogress = ({ loaded, total }) => onProgress?.({ sent: loaded, total });
    request.onerror = () => settle(() => reject(new ConnectionError("the connection failed")));
    request.onload = () =>
      settle(() => {
        const headers = new Headers();
        for (const header of ["content-type", "retry-after"]) {
          const value = request.getResponseHeader(header);
          if (value !== null) headers.set(header, value);
        }
        resolve(new Response(request.responseText || null, { status: request.status, headers }));
      });
    request.open("POST", url);
    request.setRequestHeader("authorization", `Bearer ${token}`);
    const form = new FormData();
    form.append("file", file.type === "" ? file.slice(0, file.size, typeOf(file)) : file, name);
    request.send(form);
  });

/** A name inside quotes of a form's header, as browsers write it. */
const quoted = (name: string): string =>
  name.replaceAll('"', "%22").replaceAll("\r", "%0D").replaceAll("\n", "%0A");

const formOf = (file: Blob, name: string, onProgress: UploadOptions["onProgress"]) => {
  const boundary = `mini-chat-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const form = new Blob([
    `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${quoted(name)}"\r\n`,
    `Content-Type: ${typeOf(file)}\r\n\r\n`,
    file,
    `\r\n--${boundary}--\r\n`,
  ]);
  const type = `multipart/form-data; boundary=${boundary}`;
  const body = () => (onProgress === undefined ? form : counted(form, onProgress));
  return { type, body };
};

/** The form as a stream that tells how much of it was taken. */
const counted = (form: Blob, onProgress: NonNullable<UploadOptions["onProgress"]>): ReadableStream => {
  let sent = 0;
  return form.stream().pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (chunk, controller) => {
        sent += chunk.byteLength;
        onProgress({ sent, total: form.size });
        controller.enqueue(chunk);
      },
    }),
  );
};
