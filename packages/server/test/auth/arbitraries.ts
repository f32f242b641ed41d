import fc from "fast-check";
import type { Constraint, ScopeRules } from "../../src/auth/scope.ts";
import { tenantA, tenantB, userA, userB } from "./support.ts";

export const chatIds = ["cccccccc-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000002"];
export const tenants = [tenantA, tenantB];
export const users = [userA, userB];

/** Values a rule may name: ids in both cases, and what is no id. */
const valuesOf = (ids: readonly string[]) =>
  fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...ids, ...ids.map((id) => id.toUpperCase())) },
      { weight: 1, arbitrary: fc.constantFrom("*", "", "'; drop table chats; --", 1, true) },
    ),
    { minLength: 1, maxLength: 3 },
  );

const predicate = fc.oneof(
  fc.record({ property: fc.constant("id" as const), values: valuesOf(chatIds) }),
  fc.record({ property: fc.constant("owner_id" as const), values: valuesOf(users) }),
  fc.record({ property: fc.constant("owner_tenant_id" as const), values: valuesOf(tenants) }),
);

/** Rules over two chats, users and tenants, so that hits are as likely as misses. */
export const rules: fc.Arbitrary<ScopeRules> = fc.oneof(
  { weight: 1, arbitrary: fc.constant<ScopeRules>("unconstrained") },
  {
    weight: 9,
    arbitrary: fc.array(fc.array(predicate, { maxLength: 3 }) as fc.Arbitrary<Constraint>, { maxLength: 3 }),
  },
);

export const row = fc.record({
  id: fc.constantFrom(...chatIds),
  owner_id: fc.constantFrom(...users),
  owner_tenant_id: fc.constantFrom(...tenants),
});
