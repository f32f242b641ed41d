import { randomBytes } from "node:crypto";
import type { Server, ServerResponse } from "node:http";
import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { AppError } from "../errors.ts";
import { uuidV4 } from "../lib/id.ts";
import { renderProblem } from "./problem.ts";

/** What never becomes a request of the framework is answered with a problem, too (api.md §5.1). */
export const answerUnparsed = (server: Server): void => {
  server.on("request", ({ socket }, response) => {
    const responses = open.get(socket) ?? new Set();
    open.set(socket, responses.add(response));
    response.once("close", () => responses.delete(response));
  });
  // An expectation nobody knows may be ignored (RFC 9110 §10.1.1); Node would answer 417 without a body.
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  server.on("connect", (_request, socket) => refuseSocket(new Error("CONNECT is not served"), socket));
};

/** Answers not yet complete, by connection. */
const open = new WeakMap<Duplex, Set<ServerResponse>>();

/** Whether what is written now would be read as a part of an answer that has begun. */
const isAnswering = (socket: Duplex): boolean =>
  [...(open.get(socket) ?? [])].some(({ headersSent, writableEnded }) => headersSent && !writableEnded);

/**
 * Answers bad HTTP, oversized headers and requests that come too slowly, and closes the connection; in the
 * middle of another answer, such as a stream, it only closes it.
 */
export const refuseSocket = (error: Error & { code?: string }, socket: Duplex): void => {
  if (error.code === "ECONNRESET" || socket.destroyed || !socket.writable || isAnswering(socket))
    return void socket.destroy();
  const refusal =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? new AppError("request_timeout", { detail: "The request did not arrive in time." })
      : new AppError("invalid_request", { detail: "This is not a valid HTTP request." });
  const traceId = randomBytes(16).toString("hex");
  const { status, headers, problem } = renderProblem(refusal, { url: "/", traceId });
  const body = JSON.stringify(problem);
  const fields = {
    ...headers,
    "content-length": String(Buffer.byteLength(body)),
    "cache-control": "no-store",
    "x-request-id": uuidV4(),
    connection: "close",
  };
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}`);
  socket.end([`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`, ...head, "", body].join("\r\n"));
};
