declare const tenantBrand: unique symbol;
declare const userBrand: unique symbol;

/** Lower-case UUID of a tenant. Comes from a verified subject, an event or a scanned row; never from client input. */
export type TenantId = string & { readonly [tenantBrand]: true };
/** Lower-case UUID of a user of a tenant. */
export type UserId = string & { readonly [userBrand]: true };

/** Who acts: the scope every query on tenant data carries (data.md §5). */
export interface Actor {
  readonly tenantId: TenantId;
  readonly userId: UserId;
  readonly subjectType: "user" | "system";
  /** Token scopes, enforced by the policy decision point (data.md §6). */
  readonly scopes: readonly string[];
}

export const asTenantId = (uuid: string): TenantId => uuid.toLowerCase() as TenantId;
export const asUserId = (uuid: string): UserId => uuid.toLowerCase() as UserId;
