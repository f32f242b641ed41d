import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileConstraints, type RawConstraints } from "../../src/auth/decision.ts";
import {
  type Constraint,
  chatScopePredicate,
  ensureOwner,
  ensureTenant,
  type Property,
  type ScopeRules,
  satisfies,
  scopeFor,
  tenantAndOwner,
  tenantOnly,
} from "../../src/auth/scope.ts";
import { row, rules } from "./arbitraries.ts";
import { actorA, tenantA, tenantB, userA, userB } from "./support.ts";

const supported: readonly Property[] = ["owner_tenant_id", "owner_id", "id"];
const chat = "cccccccc-0000-4000-8000-00000000000c";

const eq = (property: string, value: unknown) => ({ op: "eq", property, value });
const within = (property: string, values: unknown) => ({ op: "in", property, values });
const constraint = (...predicates: readonly unknown[]) => ({ predicates });

const compile = (raw: RawConstraints, required: boolean) => compileConstraints(raw, { required, supported });

const missing = { kind: "error", reason: "constraints missing" };
const uncompilable = { kind: "error", reason: "constraints uncompilable" };
const unconstrained = { kind: "scope", rules: "unconstrained", dropped: 0 };

describe("compilation of a positive answer (data.md §6)", () => {
  test.each<[string, RawConstraints, boolean, object]>([
    ["no constraints, required", [], true, missing],
    ["no constraints, not required", [], false, unconstrained],
    ["one empty constraint, required", [constraint()], true, unconstrained],
    ["all constraints empty", [constraint(), constraint()], false, unconstrained],
    [
      "eq",
      [constraint(eq("id", chat))],
      true,
      { kind: "scope", dropped: 0, rules: [[{ property: "id", values: [chat] }]] },
    ],
    [
      "in",
      [constraint(within("owner_id", [userA, userB]))],
      true,
      { kind: "scope", dropped: 0, rules: [[{ property: "owner_id", values: [userA, userB] }]] },
    ],
    [
      "predicates are AND-ed, constraints OR-ed",
      [constraint(eq("id", chat), eq("owner_id", userA)), constraint(eq("owner_tenant_id", tenantA))],
      true,
      {
        kind: "scope",
        dropped: 0,
        rules: [
          [
            { property: "id", values: [chat] },
            { property: "owner_id", values: [userA] },
          ],
          [{ property: "owner_tenant_id", values: [tenantA] }],
        ],
      },
    ],
    [
      "booleans and whole numbers are scalars",
      [constraint(eq("id", true)), constraint(within("id", [1, false]))],
      true,
      {
        kind: "scope",
        dropped: 0,
        rules: [[{ property: "id", values: [true] }], [{ property: "id", values: [1, false] }]],
      },
    ],
  ])("%s", (_answer, raw, required, expected) => {
    expect(compile(raw, required)).toEqual(expected);
  });

  const notUnderstood: [string, unknown][] = [
    ["an unknown property", eq("color", "red")],
    ["an unknown predicate", { op: "gt", property: "id", value: 1 }],
    ["a group", { op: "in_group", property: "owner_id", group_ids: [userA] }],
    ["a group subtree", { op: "in_group_subtree", property: "owner_id", group_ids: [userA] }],
    ["an empty list", within("id", [])],
    ["a value that is a map", eq("id", { x: 1 })],
    ["a value that is a list", eq("id", [chat])],
    ["a value that is null", eq("id", null)],
    ["no value", { op: "eq", property: "id" }],
    ["a fraction", eq("id", 1.5)],
    ["a fraction in a list", within("id", [1, 1.5])],
    ["no list", within("id", chat)],
    ["no predicate at all", "owner_id"],
    ["null", null],
  ];

  test.each(notUnderstood)("%s drops its constraint, whatever else it says", (_what, predicate) => {
    const alone = [constraint(eq("id", chat), predicate)];
    expect(compile(alone, true)).toEqual(uncompilable);
    expect(compile(alone, false)).toEqual(uncompilable);
    expect(compile([...alone, constraint(eq("id", chat))], true)).toEqual({
      kind: "scope",
      dropped: 1,
      rules: [[{ property: "id", values: [chat] }]],
    });
  });

  test("a property of another resource type is unknown", () => {
    const raw = [constraint(eq("id", chat))];
    expect(compileConstraints(raw, { required: false, supported: ["owner_tenant_id"] })).toEqual(
      uncompilable,
    );
  });
});

const owner = (value: string): Constraint[number] => ({ property: "owner_id", values: [value] });
const tenant = (value: string): Constraint[number] => ({ property: "owner_tenant_id", values: [value] });
const id: Constraint[number] = { property: "id", values: [chat] };

describe("narrowing (data.md §6)", () => {
  test.each<[string, ScopeRules, ScopeRules]>([
    ["unconstrained becomes owner-only", "unconstrained", [[owner(userA)]]],
    ["deny-all stays", [], []],
    ["an empty constraint gets the owner", [[]], [[owner(userA)]]],
    [
      "each constraint gets the owner",
      [[id], [tenant(tenantA)]],
      [
        [id, owner(userA)],
        [tenant(tenantA), owner(userA)],
      ],
    ],
    ["another owner's constraint is dropped", [[owner(userB)], [id]], [[id, owner(userA)]]],
    [
      "a list with the owner becomes the owner",
      [[{ property: "owner_id", values: [userB, userA] }]],
      [[owner(userA)]],
    ],
    ["contradicting owners are dropped", [[owner(userA), owner(userB)]], []],
    ["the owner in upper case is the owner", [[owner(userA.toUpperCase())]], [[owner(userA)]]],
  ])("ensureOwner: %s", (_rule, before, after) => {
    expect(ensureOwner(before, userA)).toEqual(after);
  });

  test.each<[string, ScopeRules, ScopeRules]>([
    ["unconstrained becomes tenant-only", "unconstrained", [[tenant(tenantA)]]],
    ["another tenant's constraint is dropped", [[tenant(tenantB)]], []],
    ["each constraint gets the tenant", [[id]], [[id, tenant(tenantA)]]],
  ])("ensureTenant: %s", (_rule, before, after) => {
    expect(ensureTenant(before, tenantA)).toEqual(after);
  });

  test.each<[string, ScopeRules, ScopeRules, ScopeRules]>([
    ["unconstrained becomes deny-all", "unconstrained", [], []],
    ["deny-all stays", [], [], []],
    [
      "other predicates go",
      [[id, tenant(tenantA), owner(userA)]],
      [[tenant(tenantA)]],
      [[tenant(tenantA), owner(userA)]],
    ],
    [
      "a constraint left without any goes",
      [[id], [tenant(tenantA)]],
      [[tenant(tenantA)]],
      [[tenant(tenantA)]],
    ],
    ["an owner is no tenant", [[owner(userA)]], [], [[owner(userA)]]],
    ["an empty constraint goes", [[]], [], []],
  ])("tenantOnly and tenantAndOwner: %s", (_rule, before, onlyTenant, both) => {
    expect(tenantOnly(before)).toEqual(onlyTenant);
    expect(tenantAndOwner(before)).toEqual(both);
  });

  test("for all rules and rows: a scope admits what the rules admit of one's own, and nothing else", () => {
    fc.assert(
      fc.property(rules, row, (raw, candidate) => {
        const own = candidate.owner_id === userA && candidate.owner_tenant_id === tenantA;
        expect(scopeFor(actorA, raw).admits(candidate)).toBe(own && satisfies(raw, candidate));
      }),
      { numRuns: 2_000 },
    );
  });

  test("a new row counts as one's own where it does not say otherwise", () => {
    expect(scopeFor(actorA, "unconstrained").admits({})).toBe(true);
    expect(scopeFor(actorA, [[tenant(tenantA), owner(userA)]]).admits({})).toBe(true);
    expect(scopeFor(actorA, [[owner(userB)]]).admits({})).toBe(false);
    expect(scopeFor(actorA, [[id]]).admits({})).toBe(false);
    expect(scopeFor(actorA, []).admits({})).toBe(false);
  });
});

describe("as SQL", () => {
  test("deny-all is false, no rule is true", () => {
    expect(chatScopePredicate({ rules: [] }, "c", 1)).toEqual({ sql: "false", values: [] });
    expect(chatScopePredicate({ rules: "unconstrained" }, "c", 1)).toEqual({ sql: "true", values: [] });
  });

  test("values are parameters, numbered from where they are told to", () => {
    const { sql, values } = chatScopePredicate({ rules: [[id, tenant(tenantA)], [owner(userA)]] }, "c", 4);
    expect(sql).toBe(
      "((c.id = any($4::uuid[]) and c.tenant_id = any($5::uuid[])) or (c.user_id = any($6::uuid[])))",
    );
    expect(values).toEqual([[chat], [tenantA], [userA]]);
  });
});
