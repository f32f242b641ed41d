import { type Agent, request } from "undici";
import type { z } from "zod";
import type { Secret } from "../config/secret.ts";
import { backoffMs } from "../lib/backoff.ts";
import { sleep } from "../lib/sleep.ts";
import type { UsageEvent } from "../outbox/events.ts";
import { PublishError } from "../outbox/sink.ts";
import { type PluginContext, PolicyPluginError } from "./plugin.ts";

/** How the policy service is reached. */
export interface HttpClient {
  readonly agent: Agent;
  /** Without a `/` at its end. */
  readonly baseUrl: string;
  readonly credential: { readonly header: string; readonly value: Secret } | null;
  /** Further attempts of a read after a network error or 5xx. */
  readonly retries: number;
  readonly timeoutMs: number;
}

// A catalog with long prompts is far below; a runaway answer is malformed.
const maxAnswerBytes = 16_777_216;
const retryDelays = { baseMs: 50, maxMs: 500 } as const;
// outbox.md §10: what the usage lease leaves at most.
const publishMs = 27_500;
// policy.md §12: what the receiver will never take; anything else may pass the next time.
const permanentStatus = new Set([400, 410, 422]);

const headersOf = ({ credential }: HttpClient, tenantId: string): Record<string, string> => ({
  accept: "application/json",
  "x-tenant-id": tenantId,
  ...(credential === null ? {} : { [credential.header]: credential.value.reveal() }),
});

/**
 * Reads one document, within the time limit and with retries inside it. Throws `PolicyPluginError`:
 * `not_found` for 404, `internal` for every other status, no answer, or one of another shape.
 */
export const read = async <T>(
  client: HttpClient,
  ctx: PluginContext,
  path: string,
  schema: z.ZodType<T>,
): Promise<T> => {
  const limit = AbortSignal.timeout(client.timeoutMs);
  const signal = ctx.signal === undefined ? limit : AbortSignal.any([ctx.signal, limit]);
  for (let attempt = 0; ; attempt += 1) {
    const answer = await once(client, ctx, path, signal);
    if (answer.kind === "text") return parse(answer.text, schema);
    if (answer.kind === "failed" && attempt < client.retries && !signal.aborted) {
      await sleep(backoffMs(attempt, retryDelays), signal);
      continue;
    }
    throw answer.error;
  }
};

type Answer =
  | { readonly kind: "text"; readonly text: string }
  /** Worth another attempt. */
  | { readonly kind: "failed"; readonly error: PolicyPluginError }
  | { readonly kind: "refused"; readonly error: PolicyPluginError };

const once = async (
  client: HttpClient,
  ctx: PluginContext,
  path: string,
  signal: AbortSignal,
): Promise<Answer> => {
  try {
    const { statusCode, body } = await request(`${client.baseUrl}${path}`, {
      dispatcher: client.agent,
      headers: headersOf(client, ctx.tenantId),
      signal,
    });
    if (statusCode === 200) return await readBounded(body);
    await body.dump({ limit: 65_536, signal });
    const message = `the policy service answered ${statusCode}`;
    if (statusCode === 404) return { kind: "refused", error: new PolicyPluginError("not_found", message) };
    const error = new PolicyPluginError("internal", message);
    return { kind: statusCode >= 500 ? "failed" : "refused", error };
  } catch (cause) {
    const error = new PolicyPluginError("internal", "no answer from the policy service", cause);
    return { kind: "failed", error };
  }
};

const readBounded = async (body: AsyncIterable<Buffer>): Promise<Answer> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxAnswerBytes) {
      const error = new PolicyPluginError("internal", "the policy service's answer is too large");
      return { kind: "refused", error };
    }
    chunks.push(chunk);
  }
  return { kind: "text", text: Buffer.concat(chunks).toString("utf8") };
};

const parse = <T>(text: string, schema: z.ZodType<T>): T => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PolicyPluginError("internal", "the policy service's answer is not JSON", cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new PolicyPluginError("internal", "the policy service's answer is malformed", parsed.error);
};

/** Publishes one usage event, once. Throws `PublishError`. */
export const publish = async (
  client: HttpClient,
  event: UsageEvent,
  signal: AbortSignal = AbortSignal.timeout(publishMs),
): Promise<void> => {
  const status = await post(client, event, signal);
  if (status >= 200 && status < 300) return;
  const kind = permanentStatus.has(status) ? "permanent" : "transient";
  throw new PublishError(kind, `the policy service answered ${status}`);
};

const post = async (client: HttpClient, event: UsageEvent, signal: AbortSignal): Promise<number> => {
  try {
    const { statusCode, body } = await request(`${client.baseUrl}/v1/usage/publish`, {
      method: "POST",
      dispatcher: client.agent,
      headers: { ...headersOf(client, event.tenant_id), "content-type": "application/json" },
      body: JSON.stringify(publishBody(event)),
      signal,
    });
    // The status says it all; reading the body frees the socket for the next request.
    await body.dump({ limit: 65_536, signal });
    return statusCode;
  } catch (cause) {
    throw new PublishError("transient", "no answer from the policy service", cause);
  }
};

const noTokens: UsageEvent["usage"] = {
  input_tokens: 0,
  output_tokens: 0,
  cache_read_input_tokens: 0,
  cache_write_input_tokens: 0,
  reasoning_tokens: 0,
};

/** The event in the contract's terms (policy.md §12), which know no system tasks and no unknown usage. */
const publishBody = (event: UsageEvent): object => {
  const ofSystem = event.billing_outcome === "system_task";
  return {
    tenant_id: event.tenant_id,
    user_id: event.user_id ?? null,
    chat_id: event.chat_id,
    turn_id: event.turn_id ?? null,
    request_id: event.request_id,
    policy_version_applied: event.policy_version_applied,
    selected_model: event.selected_model,
    effective_model: event.effective_model,
    outcome: ofSystem ? "completed" : event.billing_outcome,
    settlement_method: ofSystem ? "released" : event.settlement_method,
    completion_signal: event.completion_signal,
    usage: event.usage ?? noTokens,
    actual_credits_micro: ofSystem ? 0 : event.actual_credits_micro,
    reserved_credits_micro: event.reserved_credits_micro,
    error_code: event.error_code,
    requester_type: event.requester_type,
    system_task_type: event.system_task_type ?? null,
    dedupe_key: event.dedupe_key ?? null,
  };
};
