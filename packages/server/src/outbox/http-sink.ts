import { Agent, request } from "undici";
import { PublishError, type Sink } from "./sink.ts";

export interface HttpSinkOptions {
  readonly url: string;
  /** Sent as a bearer token. */
  readonly token?: string | undefined;
  /** Sockets to the receiver; requests beyond them wait. Default 16. */
  readonly connections?: number | undefined;
}

// policy.md §12: what the receiver will never take; anything else may pass the next time.
const permanentStatus = new Set([400, 410, 422]);

/**
 * Posts one event per request as JSON, with the headers `idempotency-key`, `x-message-id`,
 * `x-tenant-id` and, where known, `x-trace-id`. 2xx is delivered; 400, 410, 422 are permanent; every
 * other status, a network error and running out of time are transient. Redirects are not followed.
 */
export const createHttpSink = (options: HttpSinkOptions): Sink => {
  const agent = new Agent({ connections: options.connections ?? 16, keepAliveTimeout: 30_000 });
  const authorization = options.token === undefined ? {} : { authorization: `Bearer ${options.token}` };
  return {
    grouping: "single",
    publish: async (deliveries, signal) => {
      for (const { payload, idempotencyKey, messageId, tenantId, trace } of deliveries) {
        const status = await post(agent, options.url, payload, signal, {
          "content-type": "application/json",
          "idempotency-key": idempotencyKey,
          "x-message-id": messageId,
          "x-tenant-id": tenantId,
          ...(trace === null ? {} : { "x-trace-id": trace }),
          ...authorization,
        });
        if (status < 200 || status >= 300) {
          const kind = permanentStatus.has(status) ? "permanent" : "transient";
          throw new PublishError(kind, `the receiver answered ${status}`);
        }
      }
    },
    close: () => agent.close(),
  };
};

const post = async (
  dispatcher: Agent,
  url: string,
  body: string,
  signal: AbortSignal,
  headers: Record<string, string>,
): Promise<number> => {
  try {
    const response = await request(url, { method: "POST", dispatcher, body, headers, signal });
    // The body is not needed; reading it frees the socket for the next request.
    await response.body.dump({ limit: 65_536, signal });
    return response.statusCode;
  } catch (error) {
    const code = (error as { code?: unknown } | null)?.code;
    throw new PublishError(
      "transient",
      `no answer from the receiver${code ? ` (${String(code)})` : ""}`,
      error,
    );
  }
};
