import type { FastifyRequest } from "fastify";
import { z } from "zod";
import type { Secret } from "../config/secret.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { requireToken } from "../http/ops-server.ts";
import type { ApiServer } from "../http/server.ts";
import { uuid } from "../http/validate.ts";
import { type DeadFilter, deadStatuses, defaultDeadLimit, isActorName, maxDeadLimit } from "./dead-letter.ts";
import { changeSelected, type DeadLetterDeps, purgeDeadLetters, type Selection } from "./dead-letters.ts";
import { decodePosition, encodePosition } from "./dead-position.ts";
import { countDead, findDead, groupDead, listDead } from "./dead-store.ts";
import { setPaused } from "./partition-store.ts";
import { queueKinds, storedQueueName } from "./queue.ts";
import { readOutboxStatus } from "./status.ts";
import { changeView, deadGroupView, deadLetterView, partitionView, statusView, waitingView } from "./view.ts";
import { maxRejectReason, RejectRefused, rejectWaiting } from "./waiting.ts";
import { decodeWaitingPosition, encodeWaitingPosition } from "./waiting-position.ts";
import { listWaiting } from "./waiting-store.ts";

export interface OutboxAdminDeps extends DeadLetterDeps {
  /** `server.admin_token`; without it these paths do not exist. */
  readonly token: Secret | undefined;
  readonly retentionDays: number;
}

const id = () => z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const partitionId = () => z.coerce.number().int().min(1).max(2_147_483_647);
const flag = () => z.enum(["true", "false"]).optional();
const limitText = () => z.coerce.number().int().min(1).max(maxDeadLimit).default(defaultDeadLimit);

const scopeShape = {
  queue: z.string().max(1_024).optional(),
  partition_id: partitionId().optional(),
  kind: z.string().max(1_024).optional(),
  tenant_id: uuid().optional(),
  fingerprint: z.string().max(128).optional(),
};

const filterShape = { ...scopeShape, status: z.enum([...deadStatuses, "all"]).optional() };

const listQuery = z.object({
  ...filterShape,
  limit: limitText(),
  cursor: z.string().max(256).optional(),
  include_payload: flag(),
});

const waitingQuery = z.object({
  queue: scopeShape.queue,
  partition_id: scopeShape.partition_id,
  tenant_id: scopeShape.tenant_id,
  all: flag(),
  limit: limitText(),
  cursor: z.string().max(256).optional(),
});

const maxIds = 1_000;
// A payload may have 64 KiB.
const maxWithPayload = 100;

const selection = z
  .strictObject({
    ids: z.array(z.int().min(1)).min(1).max(maxIds).optional(),
    filter: z
      .strictObject(scopeShape)
      .refine((scope) => Object.values(scope).some((part) => part !== undefined), {
        message: `must name at least one of ${Object.keys(scopeShape).join(", ")}`,
      })
      .optional(),
    /** Of a filter: how many at most. */
    limit: z.int().min(1).max(maxDeadLimit).default(maxDeadLimit),
  })
  .refine(({ ids, filter }) => (ids === undefined) !== (filter === undefined), {
    message: "give either ids or filter",
  });

type Scope = { [Key in keyof typeof filterShape]?: z.output<(typeof filterShape)[Key]> };

/**
 * `/admin/v1/outbox/…` on the ops listener (outbox.md §11): what the command line does, for dead letters,
 * purge, what waits, status and pausing. Across tenants. Every call is logged with its actor, the header `X-Actor`.
 */
export const registerOutboxAdmin = (ops: ApiServer, deps: OutboxAdminDeps): void => {
  const filterOf = (scope: Scope): DeadFilter => ({
    queue: scope.queue === undefined ? undefined : storedQueueName(deps.queues, scope.queue),
    partitionId: scope.partition_id,
    kind: scope.kind,
    tenantId: scope.tenant_id,
    fingerprint: scope.fingerprint,
    status: scope.status,
  });
  registerReads(ops, deps, filterOf);
  registerDeadChanges(ops, deps, filterOf);
  registerWaiting(ops, deps);
  registerStatus(ops, deps);
};

type FilterOf = (scope: Scope) => DeadFilter;

const root = "/admin/v1/outbox";

/** Hooks of a guarded route: the token, the name of who calls, and the line of the call in the log. */
const guarded = ({ token, logger }: OutboxAdminDeps, operation: string) => ({
  onRequest: [
    requireToken(token),
    async (request: FastifyRequest) => {
      actorOf(request);
    },
  ],
  onResponse: async (request: FastifyRequest, reply: { statusCode: number }) => {
    const { params } = request;
    logger.info(
      {
        actor: loggedActor(request),
        operation,
        ...(typeof params === "object" ? params : {}),
        http_status: reply.statusCode,
        http_request_id: request.id,
        trace_id: request.traceId,
        processing_stage: "outbox",
      },
      "admin call",
    );
  },
});

const actorHeader = (request: FastifyRequest): string => {
  const given = request.headers["x-actor"];
  return typeof given === "string" && given.trim() !== "" ? given.trim() : "admin";
};

const actorOf = (request: FastifyRequest): string => {
  const actor = actorHeader(request);
  if (isActorName(actor)) return actor;
  const message = "must be at most 128 printable characters";
  throw new AppError("invalid_request", {
    detail: `X-Actor ${message}.`,
    errors: [{ field: "x-actor", message }],
  });
};

const loggedActor = (request: FastifyRequest): string => {
  const actor = actorHeader(request);
  return isActorName(actor) ? actor : "invalid";
};

const notFound = (what: string): AppError =>
  new AppError("route_not_found", { detail: `There is no ${what} with this id.` });

const registerReads = (ops: ApiServer, deps: OutboxAdminDeps, filterOf: FilterOf): void => {
  const { db } = deps;
  ops.get(
    `${root}/dead-letters`,
    { ...guarded(deps, "dead_letters_list"), schema: { querystring: listQuery } },
    async (request) => {
      const { cursor } = request.query;
      const withPayload = request.query.include_payload === "true";
      const limit = Math.min(request.query.limit, withPayload ? maxWithPayload : maxDeadLimit);
      const letters = await listDead(db, filterOf(request.query), {
        limit: limit + 1,
        after: cursor === undefined ? undefined : decodePosition(cursor),
        withPayload,
      });
      const page = letters.slice(0, limit);
      const last = letters.length > limit ? page.at(-1) : undefined;
      return {
        items: page.map(deadLetterView),
        page_info: { limit, next_cursor: last === undefined ? null : encodePosition(last) },
      };
    },
  );
  ops.get(
    `${root}/dead-letters::count`,
    { ...guarded(deps, "dead_letters_count"), schema: { querystring: z.object(filterShape) } },
    async (request) => {
      const filter = filterOf(request.query);
      const [count, groups] = [await countDead(db, filter), await groupDead(db, filter, defaultDeadLimit)];
      return { count, groups: groups.map(deadGroupView) };
    },
  );
  ops.get(
    `${root}/dead-letters/:id`,
    {
      ...guarded(deps, "dead_letters_show"),
      schema: { params: z.object({ id: id() }), querystring: z.object({ include_payload: flag() }) },
    },
    async (request) => {
      const withPayload = request.query.include_payload === "true";
      const letter = await findDead(db, BigInt(request.params.id), withPayload);
      if (letter === null) throw notFound("dead letter");
      return deadLetterView(letter);
    },
  );
};

const registerDeadChanges = (ops: ApiServer, deps: OutboxAdminDeps, filterOf: FilterOf): void => {
  const selected = (body: z.output<typeof selection>): Selection =>
    body.ids !== undefined
      ? { ids: body.ids.map(BigInt) }
      : { filter: filterOf(body.filter ?? {}), limit: body.limit };
  for (const kind of ["requeue", "discard"] as const) {
    ops.post(
      `${root}/dead-letters::${kind}`,
      { ...guarded(deps, `dead_letters_${kind}`), schema: { body: selection } },
      async (request) =>
        changeView(await changeSelected(deps, kind, selected(request.body), { actor: actorOf(request) })),
    );
  }
  ops.post(
    `${root}/dead-letters::purge`,
    {
      ...guarded(deps, "dead_letters_purge"),
      schema: {
        body: z.strictObject({ all_terminal: z.boolean().default(false), queue: scopeShape.queue }),
      },
    },
    async (request) => {
      const { all_terminal: all, queue } = request.body;
      const scope = {
        olderThanDays: all ? 0 : deps.retentionDays,
        queue: queue === undefined ? undefined : storedQueueName(deps.queues, queue),
      };
      return { deleted: await purgeDeadLetters(deps, scope, { actor: actorOf(request) }) };
    },
  );
};

const registerWaiting = (ops: ApiServer, deps: OutboxAdminDeps): void => {
  ops.get(
    `${root}/messages`,
    { ...guarded(deps, "messages_list"), schema: { querystring: waitingQuery } },
    async (request) => {
      const { queue, partition_id, tenant_id, all, limit, cursor } = request.query;
      const heads = await listWaiting(
        deps.db,
        {
          queue: queue === undefined ? undefined : storedQueueName(deps.queues, queue),
          partitionId: partition_id,
          tenantId: tenant_id,
          all: all === "true",
        },
        { limit: limit + 1, after: cursor === undefined ? undefined : decodeWaitingPosition(cursor) },
      );
      const page = heads.slice(0, limit);
      const last = heads.length > limit ? page.at(-1) : undefined;
      return {
        items: page.map(waitingView),
        page_info: { limit, next_cursor: last === undefined ? null : encodeWaitingPosition(last.id) },
      };
    },
  );
  ops.post(
    `${root}/messages/:message_id/reject`,
    {
      ...guarded(deps, "messages_reject"),
      schema: {
        params: z.object({ message_id: uuid() }),
        body: z.strictObject({ reason: z.string().trim().min(1).max(maxRejectReason).optional() }),
      },
    },
    async (request) => {
      const { message_id: messageId } = request.params;
      const { reason } = request.body;
      const letter = await rejectWaiting(deps, messageId, { actor: actorOf(request), reason }).catch(
        toProblem,
      );
      return deadLetterView(letter);
    },
  );
};

/** Rethrows, a refusal as what the catalog has: a mutation that lost a race is 409 (api.md §5.2). */
const toProblem = (error: unknown): never => {
  if (!(error instanceof RejectRefused)) throw error;
  if (error.reason === "unknown") throw notFound("waiting message");
  throw new AppError("generation_in_progress", { detail: `Not rejected: ${error.message}.` });
};

const registerStatus = (ops: ApiServer, deps: OutboxAdminDeps): void => {
  ops.get(`${root}/status`, guarded(deps, "status"), async () => {
    const queues = queueKinds.map((kind) => deps.queues[kind]);
    const status = await readOutboxStatus(deps.db, queues, { withOthers: true });
    return { ...statusView(status), partitions: status.partitions.map(partitionView) };
  });
  for (const operation of ["pause", "resume"] as const) {
    ops.post(
      `${root}/partitions/:partition_id/${operation}`,
      { ...guarded(deps, operation), schema: { params: z.object({ partition_id: partitionId() }) } },
      async (request) => {
        const { partition_id } = request.params;
        const paused = operation === "pause";
        const [partition] = await inTransaction(deps.db, (tx) =>
          setPaused(tx, { partitionId: partition_id }, paused),
        );
        if (partition === undefined) throw notFound("partition");
        if (!paused) deps.flush();
        return { partition_id: partition.id, queue: partition.queue, no: partition.no, paused };
      },
    );
  }
};
