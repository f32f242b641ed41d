import type { EgressRequest } from "../attempt.ts";
import { completeCall } from "../complete-call.ts";
import type { LlmProvider, ProviderCompletion, ProviderRequest, ProviderTarget } from "../contract.ts";
import { errorOf, member } from "../failure.ts";
import { modelCallRetry } from "../retry.ts";
import { streamCall } from "../stream-call.ts";
import type { Endpoint, Upstream } from "../upstream.ts";
import { readCitations, readResponseId, readText, readUsage } from "./answer.ts";
import { createResponsesTranslator } from "./events.ts";
import { droppedTools, requestBody, requestPath } from "./request.ts";

/** The adapter for the Responses API of OpenAI and Azure OpenAI (providers.md §2). */
export function createOpenAiResponses(upstreamOf: (target: ProviderTarget) => Upstream): LlmProvider {
  return {
    stream: (request, target, signal) => {
      const upstream = upstreamOf(target);
      const call = egressRequest(request, target, upstream, "responses_stream");
      return streamCall(upstream, call, createResponsesTranslator(target), signal);
    },
    complete: async (request, target, signal) => {
      const upstream = upstreamOf(target);
      const call = egressRequest(request, target, upstream, "responses");
      const { body, error } = await completeCall(upstream, call, signal);
      if (member(body, "status") === "failed") {
        throw error({ kind: "reported", ...(errorOf(body) ?? { code: "", message: "" }) });
      }
      return completion(body);
    },
  };
}

const egressRequest = (
  request: ProviderRequest,
  target: ProviderTarget,
  upstream: Upstream,
  endpoint: Endpoint,
): EgressRequest => {
  const stream = endpoint === "responses_stream";
  const dropped = droppedTools(request.tools);
  if (dropped.length > 0) {
    upstream.logger.debug(
      { provider: target.providerId, dropped },
      "tools without a form in this API left out",
    );
  }
  return {
    endpoint,
    method: "POST",
    path: requestPath(target, request.model),
    accept: stream ? "text/event-stream" : "application/json",
    body: JSON.stringify(requestBody(request, stream)),
    contentType: "application/json",
    retry: modelCallRetry,
    authHeaders: target.authHeaders,
    tenantId: request.userIdentity.tenantId,
    deployment: request.model,
    correlationId: request.correlationId,
    ...(request.traceparent === undefined ? {} : { traceparent: request.traceparent }),
    totalTimeoutMs: stream ? null : upstream.limits.nonStreamingTimeoutMs,
  };
};

const completion = (body: unknown): ProviderCompletion => {
  const responseId = readResponseId(body);
  return {
    content: readText(body),
    usage: readUsage(body),
    citations: readCitations(body),
    ...(responseId === undefined ? {} : { responseId }),
  };
};
