import type { TenantId } from "../../auth/actor.ts";
import type { Db } from "../../db/pool.ts";
import { inTransaction } from "../../db/tx.ts";
import { type Logger, noLogger } from "../../telemetry/log.ts";
import { isRecord } from "../aliases.ts";
import { parseSnapshot } from "../catalog.ts";
import { snapshotDocument } from "../document.ts";
import { InvalidSnapshotError, type PluginContext, PolicyPluginError, type TimelyPlugin } from "../plugin.ts";
import type { PolicySnapshot } from "../snapshot.ts";
import { findSnapshot, insertSnapshot } from "../store.ts";
import { Lru } from "./lru.ts";
import { createSingleFlight } from "./single-flight.ts";

export interface SnapshotCacheDeps {
  readonly plugin: Pick<TimelyPlugin, "getPolicySnapshot">;
  /** Null keeps snapshots in memory only (policy.md §11). */
  readonly db: Db | null;
  readonly providerIds: ReadonlySet<string>;
  readonly capacity: number;
  readonly logger?: Logger;
}

/** Validated snapshots by tenant and version: memory, then the table, then the plugin. */
export interface SnapshotCache {
  peek(tenantId: TenantId, version: bigint): PolicySnapshot | undefined;
  /** Throws `PolicyPluginError`, `InvalidSnapshotError` or the database's error. */
  get(ctx: PluginContext, version: bigint): Promise<PolicySnapshot>;
}

export const createSnapshotCache = (deps: SnapshotCacheDeps): SnapshotCache => {
  const { db } = deps;
  const kept = new Lru<PolicySnapshot>(deps.capacity);
  const once = createSingleFlight<PolicySnapshot>();
  const keyOf = (tenantId: TenantId, version: bigint): string => `${tenantId} ${version}`;
  const load = async (ctx: PluginContext, version: bigint): Promise<PolicySnapshot> => {
    const stored = db === null ? null : await findSnapshot(db, ctx.tenantId, version);
    if (stored !== null) return validated(deps, version, stored.document);
    const fetched = await fetch(deps, ctx, version);
    return db === null ? fetched : keep(deps, db, ctx.tenantId, fetched);
  };
  const peek: SnapshotCache["peek"] = (tenantId, version) => kept.get(keyOf(tenantId, version));
  return {
    peek,
    get: async (ctx, version) => {
      const key = keyOf(ctx.tenantId, version);
      return (
        kept.get(key) ??
        (await once(key, async () => {
          const snapshot = await load(ctx, version);
          kept.set(key, snapshot);
          return snapshot;
        }))
      );
    },
  };
};

/** Every source is held to the same rules; what is missing here was the plugin's to complete. */
const validated = (deps: SnapshotCacheDeps, version: bigint, document: unknown): PolicySnapshot => {
  const input = isRecord(document) ? document : {};
  const parsed = parseSnapshot(version, input, { providerIds: deps.providerIds, httpDefaults: false });
  if ("snapshot" in parsed) return parsed.snapshot;
  throw new InvalidSnapshotError(parsed.problems);
};

const fetch = async (
  deps: SnapshotCacheDeps,
  ctx: PluginContext,
  version: bigint,
): Promise<PolicySnapshot> => {
  const snapshot = await deps.plugin.getPolicySnapshot(ctx, version);
  if (snapshot.policyVersion !== version) {
    throw new PolicyPluginError("internal", `asked for version ${version}, got ${snapshot.policyVersion}`);
  }
  return validated(deps, version, JSON.parse(snapshotDocument(snapshot)));
};

const keep = async (
  deps: SnapshotCacheDeps,
  db: Db,
  tenantId: TenantId,
  snapshot: PolicySnapshot,
): Promise<PolicySnapshot> => {
  const { policyVersion: version } = snapshot;
  const stored = await inTransaction(db, (tx) =>
    insertSnapshot(tx, tenantId, version, snapshotDocument(snapshot)),
  );
  if (stored.same) return snapshot;
  const fields = { tenant_id: tenantId, policy_version: version };
  (deps.logger ?? noLogger).error(fields, "the policy source gave a stored version another content");
  return validated(deps, version, stored.document);
};
