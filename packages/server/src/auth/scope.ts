import { isUuid } from "../lib/id.ts";
import type { Actor } from "./actor.ts";

/** What constraints may speak of; the columns they mean are listed in data.md §6. */
export type Property = "id" | "owner_id" | "owner_tenant_id";

/** Compared as UUID where both sides look like one, else exactly. */
export type Scalar = string | number | boolean;

/** The row's property is one of the values. */
export interface Predicate {
  readonly property: Property;
  readonly values: readonly Scalar[];
}

/** All predicates hold; none means every row. */
export type Constraint = readonly Predicate[];

/** Any one constraint holds; the empty list denies everything. */
export type ScopeRules = "unconstrained" | readonly Constraint[];

export type ScopedRow = Readonly<Partial<Record<Property, string>>>;

/**
 * What a positive decision lets this caller touch, never wider than his own tenant and his own rows
 * (data.md §6).
 */
export interface AccessScope {
  readonly rules: ScopeRules;
  /** Whether a row of the caller's own, existing or about to be inserted, is inside. */
  admits(row: ScopedRow): boolean;
}

const normal = (value: Scalar): Scalar =>
  typeof value === "string" && isUuid(value) ? value.toLowerCase() : value;

const holds = ({ property, values }: Predicate, row: ScopedRow): boolean => {
  const actual = row[property];
  return actual !== undefined && values.some((value) => normal(value) === normal(actual));
};

/** Whether a row with these properties satisfies one constraint; a property it lacks satisfies none. */
export const satisfies = (rules: ScopeRules, row: ScopedRow): boolean =>
  rules === "unconstrained" ||
  rules.some((constraint) => constraint.every((predicate) => holds(predicate, row)));

/** Adds `property = value` to each constraint; one that names the property without the value is dropped. */
const ensure = (rules: ScopeRules, property: Property, value: string): ScopeRules => {
  const required: Predicate = { property, values: [value] };
  if (rules === "unconstrained") return [[required]];
  return rules
    .filter((constraint) =>
      constraint.every(
        (predicate) => predicate.property !== property || holds(predicate, { [property]: value }),
      ),
    )
    .map((constraint) => [...constraint.filter((predicate) => predicate.property !== property), required]);
};

/** Narrows to rows of one owner (data.md §6). Unconstrained becomes owner-only; deny-all stays. */
export const ensureOwner = (rules: ScopeRules, userId: string): ScopeRules =>
  ensure(rules, "owner_id", userId);

/** Narrows to rows of one tenant, so that a wrong decision cannot widen access (data.md §6, Beyond). */
export const ensureTenant = (rules: ScopeRules, tenantId: string): ScopeRules =>
  ensure(rules, "owner_tenant_id", tenantId);

const keepOnly = (rules: ScopeRules, kept: readonly Property[]): ScopeRules =>
  rules === "unconstrained"
    ? []
    : rules
        .map((constraint) => constraint.filter(({ property }) => kept.includes(property)))
        .filter((constraint) => constraint.length > 0);

/** Keeps only tenant predicates; a constraint left without any is dropped, unconstrained becomes deny-all. */
export const tenantOnly = (rules: ScopeRules): ScopeRules => keepOnly(rules, ["owner_tenant_id"]);

/** Keeps only tenant and owner predicates; otherwise as `tenantOnly`. */
export const tenantAndOwner = (rules: ScopeRules): ScopeRules =>
  keepOnly(rules, ["owner_tenant_id", "owner_id"]);

/** The scope of a decision for one caller: the rules, intersected with his tenant and himself. */
export const scopeFor = (actor: Actor, rules: ScopeRules): AccessScope => {
  const own = { owner_tenant_id: actor.tenantId, owner_id: actor.userId };
  const narrowed = ensureTenant(ensureOwner(rules, actor.userId), actor.tenantId);
  return { rules: narrowed, admits: (row) => satisfies(narrowed, { ...own, ...row }) };
};

const chatColumns = { id: "id", owner_id: "user_id", owner_tenant_id: "tenant_id" } as const;

/**
 * The scope as a condition on the table `chats` under the given alias, its parameters numbered from
 * `firstParam`. Deny-all compiles to `false`.
 */
export const chatScopePredicate = (
  scope: Pick<AccessScope, "rules">,
  alias: string,
  firstParam: number,
): { readonly sql: string; readonly values: readonly (readonly string[])[] } => {
  if (scope.rules === "unconstrained") return { sql: "true", values: [] };
  if (scope.rules.length === 0) return { sql: "false", values: [] };
  const values: string[][] = [];
  const compile = ({ property, values: allowed }: Predicate): string => {
    // All three columns are uuid: what does not look like one equals no row, and must not reach a cast.
    values.push(allowed.filter((value) => typeof value === "string" && isUuid(value)).map(String));
    return `${alias}.${chatColumns[property]} = any($${firstParam + values.length - 1}::uuid[])`;
  };
  const alternatives = scope.rules.map((constraint) =>
    constraint.length === 0 ? "true" : constraint.map(compile).join(" and "),
  );
  return { sql: `(${alternatives.map((sql) => `(${sql})`).join(" or ")})`, values };
};
