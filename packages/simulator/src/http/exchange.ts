import type { IncomingMessage, ServerResponse } from "node:http";
import type { Capture } from "../play/capture.ts";

/** A refusal in the provider's own words. */
export class ApiError extends Error {
  override name = "ApiError";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** One captured request with everything an endpoint needs. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly capture: Capture;
  readonly query: URLSearchParams;
  /** The variable parts of the path, in order. */
  readonly params: readonly string[];
  readonly body: Buffer;
  /** The body, when it is a multipart form. */
  readonly form: FormData | null;
}

const MAX_BODY_BYTES = 268_435_456;

/** The whole body; rejects when the client leaves before its end or it is too big. */
export const readBody = async (request: IncomingMessage): Promise<Buffer> => {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MAX_BODY_BYTES) throw new ApiError(413, "request_too_large", "The request is too large.");
    parts.push(part);
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
};

/** Answers with JSON, if anybody is there. */
export const sendJson = (response: ServerResponse, status: number, body: unknown): void => {
  const text = JSON.stringify(body);
  sendBytes(response, status, "application/json", Buffer.from(text));
};

export const sendBytes = (response: ServerResponse, status: number, type: string, bytes: Buffer): void => {
  if (response.destroyed) return;
  response.writeHead(status, { "content-type": type, "content-length": bytes.length });
  response.end(bytes);
};

/** The error object of OpenAI, which the other providers' readers understand too. */
export const errorBody = (status: number, code: string, message: string): object => ({
  error: { message, type: status < 500 ? "invalid_request_error" : "server_error", param: null, code },
});

export const parseJson = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    throw new ApiError(400, "invalid_json", "The request body is not valid JSON.");
  }
};
