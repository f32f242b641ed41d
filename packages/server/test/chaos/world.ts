import { randomUUID } from "node:crypto";
import { Db } from "../../src/db/pool.ts";
import type { OutboxEvent } from "../../src/outbox/events.ts";
import type { QueueOptions } from "../../src/outbox/queue.ts";
import { turnUsageEvent } from "../../src/usage/event.ts";
import { testConfig } from "../outbox/support.ts";
import { completedTurn } from "../usage/samples.ts";
import { hashed } from "./plan.ts";

/**
 * One queue of each kind: its keys parked, its partitions blocked (by override), and one whose handler works
 * in the transaction of its acknowledgement.
 */
export const chaosKinds = ["usage", "audit", "attachment_cleanup"] as const;
export type ChaosKind = (typeof chaosKinds)[number];
export const policies = { usage: "park_key", audit: "block", attachment_cleanup: "park_key" } as const;
/** Delivered exactly once, by what is in the table `chaos_effect`. */
export const transactionalKind: ChaosKind = "attachment_cleanup";

/** What the processes of one run are told on their command line, as JSON. */
export interface Assignment {
  readonly url: string;
  readonly seed: number;
  readonly leaseMs: number;
  /** `worker-0.3`: role, place, incarnation. */
  readonly name: string;
  /** Where a worker writes what it does. */
  readonly file: string;
}

export const chaosConfig = {
  ...testConfig,
  num_partitions: 4,
  poll_interval_ms: 100,
  retry_base_ms: 20,
  retry_max_ms: 200,
  notify: true,
} as const;

export const chaosQueues = (leaseMs: number): QueueOptions => {
  const lease = { leaseMs, headroomMs: leaseMs / 4 };
  return {
    override: {
      usage: lease,
      audit: { ...lease, policy: policies.audit },
      // Nothing is given up but what is fated to be, however often its workers are killed.
      attachment_cleanup: { ...lease, maxAttempts: Number.POSITIVE_INFINITY },
    },
  };
};

export const openChaosDb = (url: string, maxConnections: number): Db =>
  new Db({
    url,
    maxConnections,
    acquireTimeoutMs: 5_000,
    statementTimeoutMs: 15_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
    applicationName: "mini-chat chaos",
  });

const tenantCount = 24;

/** Several keys to a partition, the same ones for the same seed. */
export const tenantsOf = (seed: number): string[] =>
  Array.from({ length: tenantCount }, (_, at) => {
    const head = Math.floor(hashed(`tenant ${seed} ${at}`) * 0xffffffff)
      .toString(16)
      .padStart(8, "0");
    return `${head}-0000-4000-8000-0000000000${at.toString(16).padStart(2, "0")}`;
  });

const numberPrefix = "00000000-0000-4000-8000-";
const uuidOf = (number: number): string => `${numberPrefix}${number.toString(16).padStart(12, "0")}`;

/** The `number`th message of a key, from 1; the number rides in an id. */
export const numberedEvent = (kind: ChaosKind, tenantId: string, number: number): OutboxEvent => {
  const id = uuidOf(number);
  switch (kind) {
    case "usage":
      return { kind, event: turnUsageEvent({ ...completedTurn, tenantId, requestId: id }) };
    case "audit":
      return {
        kind,
        event: {
          type: "delete",
          event_type: "turn_delete",
          timestamp: "2026-03-01T10:15:31.204Z",
          requester_type: "user",
          tenant_id: tenantId,
          actor_user_id: randomUUID(),
          chat_id: randomUUID(),
          turn_id: randomUUID(),
          request_id: id,
        },
      };
    case "attachment_cleanup":
      return {
        kind,
        event: {
          event_type: "attachment_deleted",
          tenant_id: tenantId,
          chat_id: randomUUID(),
          attachment_id: id,
          provider_file_id: null,
          vector_store_id: null,
          storage_backend: "chaos",
          attachment_kind: "image",
          deleted_at: "2026-03-01T10:15:31.204Z",
        },
      };
  }
};

export const numberOfPayload = (payload: string): number => {
  const { request_id: request, attachment_id: attachment } = JSON.parse(payload) as Record<string, string>;
  return Number.parseInt((request ?? attachment ?? "").slice(numberPrefix.length), 16);
};

/** What the handler makes of a message, the same in every process: some fail once, some are given up. */
export const fateOf = (
  kind: ChaosKind,
  tenantId: string,
  number: number,
): "done" | "retry_once" | "reject" => {
  const draw = hashed(`fate ${kind} ${tenantId} ${number}`);
  if (draw < 0.004) return "reject";
  return draw < 0.02 ? "retry_once" : "done";
};

/** A clock that all processes of the machine share, in ms. */
export const sharedNow = (): number => Number(process.hrtime.bigint()) / 1e6;
