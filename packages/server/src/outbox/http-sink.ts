import { Agent, request } from "undici";
import { signatureHeader, signatureOf } from "./signature.ts";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

export interface HttpSinkOptions {
  readonly url: string;
  /** Sent as a bearer token. */
  readonly token?: string | undefined;
  /** Signs every request; see `signatureOf`. */
  readonly secret?: string | undefined;
  /** Sockets to the receiver; requests beyond them wait. Default 16. */
  readonly connections?: number | undefined;
}

// policy.md §12: what the receiver will never take; anything else may pass the next time.
const permanentStatus = new Set([400, 410, 422]);

// Longer or other values are no header: sending them would fail the same way for ever.
const headerValue = /^[\x21-\x7e]{1,512}$/;

/**
 * Posts one event per request as JSON, with the headers `idempotency-key`, `x-message-id`,
 * `x-tenant-id`, where known `x-trace-id`, and with a secret `mini-chat-signature`. 2xx is delivered; 400, 410, 422 are permanent; every
 * other status, a network error and running out of time are transient. Redirects are not followed.
 */
export const createHttpSink = (options: HttpSinkOptions): Sink => {
  const agent = new Agent({
    connections: options.connections ?? 16,
    keepAliveTimeout: 30_000,
    bodyTimeout: 10_000,
  });
  const authorization = options.token === undefined ? {} : { authorization: `Bearer ${options.token}` };
  return {
    grouping: "single",
    publish: async (deliveries, signal) => {
      for (const delivery of deliveries) {
        const headers = {
          ...headersOf(delivery),
          ...authorization,
          ...signed(options.secret, delivery.payload),
        };
        const status = await post(agent, options.url, delivery.payload, signal, headers);
        if (status < 200 || status >= 300) {
          const kind = permanentStatus.has(status) ? "permanent" : "transient";
          throw new PublishError(kind, `the receiver answered ${status}`);
        }
      }
    },
    close: () => agent.close(),
  };
};

const headersOf = ({ idempotencyKey, messageId, tenantId, trace }: Delivery): Record<string, string> => ({
  "content-type": "application/json",
  "idempotency-key": headerValue.test(idempotencyKey) ? idempotencyKey : messageId,
  "x-message-id": messageId,
  "x-tenant-id": tenantId,
  ...(trace !== null && headerValue.test(trace) ? { "x-trace-id": trace } : {}),
});

const signed = (secret: string | undefined, body: string): Record<string, string> =>
  secret === undefined
    ? {}
    : { [signatureHeader]: signatureOf(secret, body, Math.floor(Date.now() / 1_000)) };

const post = async (
  dispatcher: Agent,
  url: string,
  body: string,
  signal: AbortSignal,
  headers: Record<string, string>,
): Promise<number> => {
  try {
    const response = await request(url, { method: "POST", dispatcher, body, headers, signal });
    // The status decides. Reading the body only frees the socket, whatever becomes of it.
    response.body.dump({ limit: 65_536 }).catch(() => {});
    return response.statusCode;
  } catch (error) {
    throw new PublishError("transient", `no answer from the receiver${codeOf(error)}`, error);
  }
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
