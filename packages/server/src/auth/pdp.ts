import { request } from "undici";
import { type AccessRequest, resources } from "./access.ts";
import type { Actor } from "./actor.ts";
import { type Decision, decisionBody } from "./decision.ts";

/** Far above any real answer; a runaway one is malformed. */
const MAX_ANSWER_BYTES = 1_048_576;

/** What the decision point is asked (data.md §6); the shape follows OpenID AuthZEN. */
export const pdpRequest = (actor: Actor, { resourceType, action, resourceId }: AccessRequest): object => {
  const { supported, required } = resources[resourceType];
  const created = resourceType === "chat" && action === "create";
  return {
    subject: { id: actor.userId, type: actor.subjectType, properties: { tenant_id: actor.tenantId } },
    action: { name: action },
    resource: {
      type: resourceType,
      ...(resourceId === undefined ? {} : { id: resourceId.toLowerCase() }),
      properties: created ? { owner_tenant_id: actor.tenantId, owner_id: actor.userId } : {},
    },
    context: {
      token_scopes: actor.scopes,
      require_constraints: required,
      capabilities: [],
      supported_properties: supported,
    },
  };
};

/**
 * Asks a decision point over HTTP, once. Rejects when there is no well-formed answer within
 * `timeoutMs`, body included; a redirect or any status but 200 is none.
 */
export const askPdp = async (
  point: { readonly url: string; readonly timeoutMs: number },
  actor: Actor,
  access: AccessRequest,
): Promise<Decision> => {
  const signal = AbortSignal.timeout(point.timeoutMs);
  const { statusCode, body } = await request(point.url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(pdpRequest(actor, access)),
    signal,
  });
  if (statusCode !== 200) {
    await body.dump({ limit: 16_384, signal });
    throw new Error(`the policy point answered ${statusCode}`);
  }
  const answer = decisionBody.safeParse(JSON.parse(await readBounded(body)));
  if (!answer.success) throw new Error("the policy point's answer is malformed");
  const { decision, context } = answer.data;
  return decision ? { allowed: true, constraints: context?.constraints ?? [] } : { allowed: false };
};

const readBounded = async (body: AsyncIterable<Buffer>): Promise<string> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) throw new Error("the policy point's answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
};
