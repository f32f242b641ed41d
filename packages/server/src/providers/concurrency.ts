import type { TenantId } from "../auth/actor.ts";

/** Caps on calls running at once to one upstream; 0 = none (providers.md §8.3). */
export interface ConcurrencyCap {
  /** Takes a place; null when the cap is reached. Without a tenant only the common cap counts. Calling the result gives the place back, once. */
  acquire(tenantId: TenantId | null): (() => void) | null;
}

/** Creates the caps of `providers.<id>.limits`. */
export function createConcurrencyCap(limits: {
  readonly max_concurrent: number;
  readonly per_tenant_max: number;
}): ConcurrencyCap {
  let running = 0;
  const byTenant = new Map<TenantId, number>();
  const release = (tenantId: TenantId | null) => {
    let released = false;
    return (): void => {
      if (released) return;
      released = true;
      running -= 1;
      if (tenantId === null) return;
      const left = (byTenant.get(tenantId) ?? 1) - 1;
      if (left > 0) byTenant.set(tenantId, left);
      else byTenant.delete(tenantId);
    };
  };
  return {
    acquire: (tenantId) => {
      const ofTenant = tenantId === null ? 0 : (byTenant.get(tenantId) ?? 0);
      if (limits.max_concurrent > 0 && running >= limits.max_concurrent) return null;
      if (tenantId !== null && limits.per_tenant_max > 0 && ofTenant >= limits.per_tenant_max) return null;
      running += 1;
      if (tenantId !== null) byTenant.set(tenantId, ofTenant + 1);
      return release(tenantId);
    },
  };
}
