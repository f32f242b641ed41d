import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { noContent, problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { timestampIn } from "../http/validate.ts";
import { invariant } from "../lib/assert.ts";
import { answerRefusals, turnStream } from "./event-schemas.ts";
import { observed } from "./observe-mutation.ts";
import type { PreflightDeps } from "./preflight.ts";
import { type RemoveTurnDeps, removeTurn } from "./remove.ts";
import type { NamedTurn } from "./retire.ts";
import { prepareRevision, type ReviseRequest } from "./revise.ts";
import { turnPath } from "./routes.ts";
import { begin, type Running, type ServeDeps, serveTurn } from "./serve.ts";

export interface MutationRoutesDeps extends PreflightDeps, ServeDeps, RemoveTurnDeps {}

const ifUpdated = z.object({ if_turn_updated_at: timestampIn().optional() });
const onDisconnect = z.enum(["cancel", "continue"]).optional();

const turnEdit = z.object({ content: z.string(), on_disconnect: onDisconnect }).meta({ id: "TurnEdit" });

const refusals = [
  "chat_not_found",
  "turn_not_found",
  "forbidden",
  "invalid_turn_state",
  "not_latest_turn",
  "service_unavailable",
  "shutting_down",
] as const;

// Rows 8–19 of turns.md §4.2 and the lost race: a retry and an edit are refused as a send is.
const refusedAsSend = problems(...refusals, ...answerRefusals);

/** Retry, edit and delete of the latest turn (api.md §2, turns.md §15). */
export const registerMutationRoutes = (api: ApiServer, deps: MutationRoutesDeps): void => {
  const config = { stream: true, refuseWhileDraining: true };
  api.post(
    "/chats/:id/turns/:request_id/retry",
    {
      config,
      schema: {
        operationId: "retryTurn",
        tags: ["turns"],
        summary: "Answer the latest message again",
        params: turnPath,
        querystring: ifUpdated.extend({ on_disconnect: onDisconnect }),
        response: { 200: turnStream, ...refusedAsSend },
      },
    },
    async (request, reply) => {
      const named = { op: "retry", ...namedTurn(request) } as const;
      await revise(deps, request, reply, { named, content: null, ...request.query });
    },
  );
  api.patch(
    "/chats/:id/turns/:request_id",
    {
      config,
      schema: {
        operationId: "editTurn",
        tags: ["turns"],
        summary: "Replace the latest message and answer it",
        params: turnPath,
        querystring: ifUpdated,
        body: turnEdit,
        response: { 200: turnStream, ...refusedAsSend },
      },
    },
    async (request, reply) => {
      const named = { op: "edit", ...namedTurn(request) } as const;
      await revise(deps, request, reply, { named, ...request.body });
    },
  );
  api.delete(
    "/chats/:id/turns/:request_id",
    {
      config: { refuseWhileDraining: true },
      schema: {
        operationId: "deleteTurn",
        tags: ["turns"],
        summary: "Delete the latest turn",
        params: turnPath,
        querystring: ifUpdated,
        response: { 204: noContent(), ...problems(...refusals) },
      },
    },
    async (request, reply) => {
      const { actor, traceId } = request;
      const named: NamedTurn = { op: "delete", ...namedTurn(request) };
      const remove = () => removeTurn(deps, actor, named, traceId);
      await observed(deps, { actor, named, traceId }, remove, (turnId) => ({ turn_id: turnId }));
      return reply.code(204).send();
    },
  );
};

const namedTurn = ({
  params,
  query,
}: {
  readonly params: z.output<typeof turnPath>;
  readonly query: z.output<typeof ifUpdated>;
}): Omit<NamedTurn, "op"> => ({
  chatId: params.id,
  requestId: params.request_id,
  ifUpdatedAt: query.if_turn_updated_at ?? null,
});

/** Refuses, or replaces the turn and runs its successor to the end. */
const revise = async (
  deps: MutationRoutesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: Pick<ReviseRequest, "named" | "content"> & {
    readonly on_disconnect?: "cancel" | "continue" | undefined;
  },
): Promise<void> => {
  const { actor, traceId, traceparent, receivedAt } = request;
  const { named, content, on_disconnect: onDisconnect = "cancel" } = asked;
  const revision = { named, content, onDisconnect, traceId, traceparent, receivedAt };
  const replace = async (): Promise<Running> => {
    const begun = await begin(deps, async () => ({
      kind: "plan",
      plan: await prepareRevision(deps, actor, revision),
    }));
    invariant(begun.kind === "running", "a new request_id is never replayed");
    return begun;
  };
  const running = await observed(deps, { actor, named, traceId }, replace, ({ turn }) => ({
    new_turn_id: turn.id,
    new_request_id: turn.requestId,
  }));
  await serveTurn(deps, reply, running);
};
