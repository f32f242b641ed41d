import type { Actor } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { periodsFrom } from "./store.ts";

/** The SQL of `image_upload_bytes`, a counter of the `total` rows (quota.md §8). */

const selectToday: Statement = {
  name: "quota_image_bytes_today",
  text: `
    select q.image_upload_bytes as bytes
    from ${periodsFrom("select now()")}
    join quota_usage q
      on q.tenant_id = $1
      and q.user_id = $2
      and q.period_type = p.period_type
      and q.period_start = p.period_start
    where p.period_type = 'daily'
      and q.bucket = 'total'`,
};

/** Bytes of images the user has uploaded on the current UTC day. */
export const imageBytesToday = async (db: Queryable, actor: Actor): Promise<bigint> =>
  (await db.query<{ bytes: bigint }>(selectToday, [actor.tenantId, actor.userId])).rows[0]?.bytes ?? 0n;

// 'daily' sorts first: the order of every touch of these rows (quota.md §6.6).
const add: Statement = {
  name: "quota_add_image_bytes",
  text: `
    insert into quota_usage as q (
      tenant_id, user_id, period_type, period_start, bucket, image_upload_bytes, updated_at
    )
    select $1::uuid, $2::uuid, p.period_type, p.period_start, 'total', $3::bigint, now()
    from ${periodsFrom("select now()")}
    order by p.period_type
    on conflict (tenant_id, user_id, period_type, period_start, bucket) do update set
      image_upload_bytes = q.image_upload_bytes + excluded.image_upload_bytes,
      updated_at = excluded.updated_at`,
};

/** Counts an image that became ready, by its stored size, on the current day and month. */
export const addImageBytes = (tx: Tx, actor: Actor, bytes: bigint): Promise<unknown> =>
  tx.query(add, [actor.tenantId, actor.userId, bytes]);
