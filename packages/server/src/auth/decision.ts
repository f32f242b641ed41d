import { z } from "zod";
import type { Constraint, Predicate, Property, Scalar, ScopeRules } from "./scope.ts";

/** The answer of a policy decision point, as far as it must be well-formed to be judged at all. */
export const decisionBody = z.object({
  decision: z.boolean(),
  context: z
    .object({ constraints: z.array(z.object({ predicates: z.array(z.unknown()) })).nullish() })
    .nullish(),
});

/** A positive answer's constraints as they came. */
export type RawConstraints = readonly { readonly predicates: readonly unknown[] }[];

export type Decision =
  | { readonly allowed: false }
  | { readonly allowed: true; readonly constraints: RawConstraints };

export type Compiled =
  | { readonly kind: "scope"; readonly rules: ScopeRules; readonly dropped: number }
  | { readonly kind: "error"; readonly reason: "constraints missing" | "constraints uncompilable" };

const scalar = z.union([z.string(), z.int(), z.boolean()]);

const eq = z.object({ op: z.literal("eq"), property: z.string(), value: scalar });
const within = z.object({ op: z.literal("in"), property: z.string(), values: z.array(scalar).min(1) });

const compilePredicate = (raw: unknown, supported: readonly Property[]): Predicate | null => {
  const parsed = z.union([eq, within]).safeParse(raw);
  if (!parsed.success) return null;
  const property = supported.find((known) => known === parsed.data.property);
  if (property === undefined) return null;
  const values: readonly Scalar[] = parsed.data.op === "eq" ? [parsed.data.value] : parsed.data.values;
  return { property, values };
};

/**
 * Compiles the constraints of a positive decision (data.md §6): OR-ed, their predicates AND-ed. A
 * constraint with anything not understood is dropped, which only narrows; when all are dropped, or
 * none came where some are required, there is no scope.
 */
export const compileConstraints = (
  raw: RawConstraints,
  options: { readonly required: boolean; readonly supported: readonly Property[] },
): Compiled => {
  if (raw.length === 0) {
    return options.required
      ? { kind: "error", reason: "constraints missing" }
      : { kind: "scope", rules: "unconstrained", dropped: 0 };
  }
  if (raw.every(({ predicates }) => predicates.length === 0)) {
    return { kind: "scope", rules: "unconstrained", dropped: 0 };
  }
  const kept: Constraint[] = [];
  for (const { predicates } of raw) {
    const compiled = predicates.map((predicate) => compilePredicate(predicate, options.supported));
    const understood = compiled.filter((predicate) => predicate !== null);
    if (understood.length === compiled.length) kept.push(understood);
  }
  return kept.length === 0
    ? { kind: "error", reason: "constraints uncompilable" }
    : { kind: "scope", rules: kept, dropped: raw.length - kept.length };
};
