import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";

/** The SQL of the sweep: reads what is stored together with the rows that should name it. */

const unowned: Statement = {
  name: "local_files_unowned",
  text: `
    select f.id, f.tenant_id as "tenantId", f.provider_id as "providerId"
    from local_files f
    join attachments a on a.id = f.attachment_id and a.chat_id = f.chat_id and a.tenant_id = f.tenant_id
    where f.created_at < now() - $1 * interval '1 second'
      and a.provider_file_id is distinct from f.id::text
    order by f.created_at
    limit $2`,
};

export interface Unowned {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly providerId: string;
}

/** Files older than the grace that no attachment names, across tenants: ids only (data.md §5). */
export const findUnownedFiles = async (db: Queryable, graceSecs: number, limit: number): Promise<Unowned[]> =>
  (await db.query<Unowned>(unowned, [graceSecs, limit])).rows;

// The key of chat_vector_stores; local_files_store_idx.
const unownedStores: Statement = {
  name: "local_stores_unowned",
  text: `
    select s.id, s.tenant_id as "tenantId", s.provider_id as "providerId"
    from local_stores s
    where s.created_at < now() - $1 * interval '1 second'
      and not exists (
        select 1
        from chat_vector_stores v
        where v.provider_id = s.provider_id
          and v.vector_store_id = s.id::text
          and v.tenant_id = s.tenant_id
      )
      and not exists (
        select 1
        from local_files f
        where f.store_id = s.id
          and f.tenant_id = s.tenant_id
      )
    order by s.created_at
    limit $2`,
};

/** Empty stores older than the grace that no chat has, across tenants: ids only (data.md §5). */
export const findUnownedStores = async (
  db: Queryable,
  graceSecs: number,
  limit: number,
): Promise<Unowned[]> => (await db.query<Unowned>(unownedStores, [graceSecs, limit])).rows;
