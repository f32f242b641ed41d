import { Agent, request } from "undici";
import { signatureHeader, signatureOf } from "./signature.ts";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

export interface HttpSinkOptions {
  readonly url: string;
  /** Sent as a bearer token. */
  readonly token?: string | undefined;
  /** Signs every request; see `signatureOf`. */
  readonly secret?: string | undefined;
  /** From the connection to the status; running out of it is transient. Default 25 s. */
  readonly timeoutMs?: number | undefined;
  /** Sockets to the receiver; requests beyond them wait. Default 16. */
  readonly connections?: number | undefined;
}

const connectTimeoutMs = 5_000;

/** Of an answer nothing but the status and `retry-after` counts; more than this is not even received. */
const maxAnswerBytes = 65_536;

// policy.md §12: what the receiver will never take; anything else may pass the next time.
const permanentStatus = new Set([400, 410, 422]);

// Longer or other values are no header: sending them would fail the same way for ever.
const headerValue = /^[\x21-\x7e]{1,512}$/;

/**
 * Posts one event per request as JSON, with the headers `idempotency-key`, `x-message-id`,
 * `x-tenant-id`, where known `x-trace-id`, and with a secret `mini-chat-signature` (`signatureOf`). 2xx is
 * delivered; 400, 410, 422 are permanent; every other status, a network error and running out of time are
 * transient: billing data is never given up over what may be a wrong set-up. Redirects are not followed:
 * they would carry token and events to another place.
 */
export const createHttpSink = (options: HttpSinkOptions): Sink => {
  const { url, secret, timeoutMs = 25_000 } = options;
  const agent = new Agent({
    connections: options.connections ?? 16,
    connect: { timeout: connectTimeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: 10_000,
    keepAliveTimeout: 30_000,
  });
  const authorization = options.token === undefined ? {} : { authorization: `Bearer ${options.token}` };
  return {
    grouping: "single",
    publish: async (deliveries, signal) => {
      for (const delivery of deliveries) {
        const headers = { ...headersOf(delivery), ...authorization, ...signed(secret, delivery.payload) };
        const time = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
        const answer = await post(agent, url, delivery.payload, time, headers);
        if (answer.status < 200 || answer.status >= 300) throw refusal(answer);
      }
    },
    close: () => agent.close(),
  };
};

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
}

const refusal = ({ status, retryAfter }: Answer): PublishError => {
  const kind = permanentStatus.has(status) ? "permanent" : "transient";
  const error = new PublishError(kind, `the receiver answered ${status}`);
  if (status === 429 || status === 503) error.retryAfterMs = retryAfterMs(retryAfter);
  return error;
};

const maxRetryAfterSecs = 300;

/** What the receiver asks for, in seconds; dates and nonsense are left to the back-off. */
const retryAfterMs = (value: string | undefined): number | undefined =>
  value !== undefined && /^[1-9]\d{0,8}$/.test(value)
    ? Math.min(Number(value), maxRetryAfterSecs) * 1_000
    : undefined;

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
): Promise<Answer> => {
  try {
    const response = await request(url, { method: "POST", dispatcher, body, headers, signal });
    // The status decides. Reading the body only frees the socket, whatever becomes of it.
    response.body.dump({ limit: maxAnswerBytes }).catch(() => {});
    const { "retry-after": retryAfter } = response.headers;
    return {
      status: response.statusCode,
      retryAfter: typeof retryAfter === "string" ? retryAfter : undefined,
    };
  } catch (error) {
    throw new PublishError("transient", `no answer from the receiver${codeOf(error)}`, error);
  }
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? ` (${error.code})` : "";
