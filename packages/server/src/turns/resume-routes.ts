import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { enterChat } from "../chats/open.ts";
import { AppError } from "../errors.ts";
import { problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { openSse, type SseWriter } from "../http/sse.ts";
import { uuidV4 } from "../lib/id.ts";
import { turnStream } from "./event-schemas.ts";
import { type FollowDeps, type FollowedTurn, followTurn } from "./follow.ts";
import { encodeEvent, type StreamEvent } from "./grammar.ts";
import { findTurnForResume, type TurnForResume } from "./log-store.ts";
import { errorEvent } from "./outcome.ts";
import { replayEvents } from "./replay.ts";
import { turnPath } from "./routes.ts";

export interface ResumeRoutesDeps extends FollowDeps {
  readonly authorizer: Parameters<typeof enterChat>[0]["authorizer"];
  readonly silenceMs: number;
  readonly stalledMs: number;
  /** `streaming.max_active_streams`; 0 = no limit. */
  readonly maxActiveStreams: number;
}

// Places are `int` in the log.
const largestSeq = 2_147_483_647;
const isSeq = (text: string): boolean => /^\d{1,10}$/.test(text) && Number(text) <= largestSeq;
const mustBeSeq = "must be the id of an event, a whole number";

const query = z.object({
  after: z
    .string()
    .refine(isSeq, mustBeSeq)
    .transform(Number)
    .optional()
    .meta({ type: "integer", minimum: 0, maximum: largestSeq }),
});

/** Following a turn that was opened with `on_disconnect: continue`, from anywhere (turns.md §16.2). */
export const registerResumeRoutes = (api: ApiServer, deps: ResumeRoutesDeps): void => {
  api.get(
    "/chats/:id/turns/:request_id/stream",
    {
      config: { stream: true },
      schema: {
        operationId: "resumeTurn",
        tags: ["turns"],
        summary: "Read the stream of a turn from an event on",
        description:
          "Sends what follows the event named by the header Last-Event-ID or, without it, by `after`; without " +
          "both, everything. Events that carry no id are no part of the log: a delta without id is the whole text.",
        params: turnPath,
        querystring: query,
        response: {
          200: turnStream,
          ...problems(
            "chat_not_found",
            "turn_not_found",
            "forbidden",
            "not_resumable",
            "service_unavailable",
          ),
        },
      },
    },
    async (request, reply) => {
      const after = lastEventIdOf(request) ?? request.query.after ?? 0;
      await resume(deps, request, reply, { ...request.params, after });
    },
  );
};

/** The header is the newer one: a client that reconnects by itself repeats its first query. */
const lastEventIdOf = ({ headers }: Pick<FastifyRequest, "headers">): number | null => {
  const value = headers["last-event-id"];
  if (value === undefined || value === "") return null;
  if (typeof value !== "string" || !isSeq(value)) throw badId(mustBeSeq);
  return Number(value);
};

const badId = (message: string): AppError =>
  new AppError("invalid_request", {
    detail: `Last-Event-ID ${message}.`,
    errors: [{ field: "Last-Event-ID", message }],
  });

interface Asked {
  readonly id: string;
  readonly request_id: string;
  readonly after: number;
}

const resume = async (
  deps: ResumeRoutesDeps,
  request: Pick<FastifyRequest, "actor">,
  reply: FastifyReply,
  { id: chatId, request_id: requestId, after }: Asked,
): Promise<void> => {
  const { actor } = request;
  const titles = { notFound: "chat_not_found", forbidden: "forbidden" };
  const { model } = await enterChat(deps, actor, chatId, "read_turn", titles);
  const turn = await findTurnForResume(deps.db, actor.tenantId, chatId, requestId);
  // What was deleted or replaced is not told again, though its log may still be there.
  if (turn === null || turn.deleted) {
    throw noSuchTurn();
  }
  const open = (onSilence: () => void): SseWriter =>
    openSse(reply, { silenceMs: deps.silenceMs, stalledMs: deps.stalledMs, onSilence });
  if (turn.lastSeq !== null && turn.started !== null) {
    if (after > turn.lastSeq) throw badId("names an event that this turn does not have");
    refuseTooMany(deps);
    return followTurn(
      deps,
      followed(turn, { tenantId: actor.tenantId, chatId }, turn.started, turn.lastSeq, after),
      open,
    );
  }
  if (turn.state === "running") {
    throw new AppError("not_resumable", { detail: "This turn runs and was not opened to be resumed." });
  }
  const events =
    turn.state === "completed"
      ? await replayEvents(deps, actor.tenantId, chatId, turn, model)
      : unloggedFailure(turn, turn.state);
  if (events === null) throw noSuchTurn();
  const client = open(() => {});
  client.write(events.map((event) => encodeEvent(event)).join(""));
  client.end();
};

const noSuchTurn = (): AppError => new AppError("turn_not_found", { detail: "This chat has no such turn." });

/** Counted apart from the turns: who only reads must not keep anybody from sending. */
const refuseTooMany = ({ maxActiveStreams, readers }: ResumeRoutesDeps): void => {
  if (maxActiveStreams === 0 || readers.size < maxActiveStreams) return;
  throw new AppError("service_unavailable", {
    detail: "Too many streams are being read.",
    headers: { "retry-after": "5" },
  });
};

const followed = (
  turn: TurnForResume,
  chat: Pick<FollowedTurn, "tenantId" | "chatId">,
  started: NonNullable<TurnForResume["started"]>,
  lastSeq: number,
  after: number,
): FollowedTurn => ({
  id: turn.id,
  ...chat,
  started: { event: "stream_started", data: { ...started, is_new_turn: false } },
  // Who has the end already gets it once more: no stream ends without it.
  after: turn.state === "running" ? after : Math.min(after, lastSeq - 1),
});

/** A turn that ended badly and has no log; the id is that of a message nobody will find, as it is live. */
const unloggedFailure = (turn: TurnForResume, state: "failed" | "cancelled"): readonly StreamEvent[] => [
  {
    event: "stream_started",
    data: {
      request_id: turn.requestId,
      message_id: turn.assistantMessageId ?? uuidV4(),
      is_new_turn: false,
    },
  },
  state === "cancelled"
    ? errorEvent("cancelled", "The turn was cancelled.")
    : errorEvent(turn.errorCode ?? "internal_error", "The turn failed."),
];
