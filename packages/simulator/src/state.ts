import { type Check, either, flag, integer, object, oneOf, text } from "./scenario/checks.ts";
import { parseScenario } from "./scenario/parse.ts";
import type { Scenario } from "./scenario/scenario.ts";
import { type Indexing, indexingStatuses } from "./storage/vector-stores.ts";

export const operations = [
  "upload",
  "store_creation",
  "indexing",
  "poll",
  "list",
  "deletion",
  "removal",
  "file_deletion",
  "store_deletion",
] as const;
/**
 * `indexing` is adding a file to a store, `poll` reading how far that is, `list` a page of files or stores.
 * `deletion` is of anything: of a file in a store (`removal`), a file, or a store; the particular one is
 * taken first.
 */
export type Operation = (typeof operations)[number];

/** What happens to the next `times` operations. */
export interface Fault {
  readonly times: number;
  /**
   * The status they fail with (default 500), a connection reset, or no answer at all. With `gate` and no
   * status they succeed.
   */
  readonly status?: number | "drop" | "hang";
  /** They wait until this gate is open. */
  readonly gate?: string;
  /** They have their effect before all this: what is lost is the answer. */
  readonly after?: boolean;
  /** Seconds, sent as `Retry-After` with a status. */
  readonly retry_after?: number;
}

/** What lies at the simulated provider. */
export interface Held {
  readonly files: readonly { readonly id: string; readonly filename: string; readonly bytes: number }[];
  readonly vector_stores: readonly { readonly id: string; readonly files: readonly string[] }[];
}

export type Faults = Readonly<Partial<Record<Operation, Fault>>>;

export interface SimulatorState {
  /** How deleting something unknown is answered: 200 with `deleted: false`, or 404. */
  readonly missing_deletes: "ok" | "not_found";
  readonly indexing: Indexing;
  /** What is left of the programmed failures. */
  readonly fail: Faults;
  readonly default_scenario: Scenario | null;
  readonly summary_scenario: Scenario | null;
  readonly waiting_scenarios: number;
  readonly requests: number;
  readonly active: number;
  readonly files: number;
  readonly vector_stores: number;
  readonly open_gates: readonly string[];
  readonly waiting_gates: readonly string[];
}

/** What is left out stays; a fault of null is taken back. */
export interface StateChange {
  readonly missing_deletes?: "ok" | "not_found";
  readonly indexing?: Partial<Indexing>;
  readonly fail?: Readonly<Partial<Record<Operation, Fault | null>>>;
  readonly default_scenario?: Scenario | null;
  /** Answers requests for a thread summary; null for the usual answer. */
  readonly summary_scenario?: Scenario | null;
}

const scenario: Check<Scenario | null> = (value, path) =>
  value === null ? null : parseScenario(value, path);

const fault: Check<Fault | null> = (value, path) => (value === null ? null : faultObject(value, path));

const faultObject = object<Fault>(
  {
    times: integer(1, 1_000_000),
    status: either<NonNullable<Fault["status"]>>(
      "must be a status from 400 to 599, drop or hang",
      integer(400, 599),
      oneOf("drop", "hang"),
    ),
    gate: text,
    after: flag,
    retry_after: integer(0, 1_000_000),
  },
  "times",
);

/** Reads a change of the state; throws `InvalidInput` naming the field that is not as documented. */
export const parseStateChange: Check<StateChange> = object<StateChange>({
  missing_deletes: oneOf("ok", "not_found"),
  indexing: object<Partial<Indexing>>({ status: oneOf(...indexingStatuses), polls: integer(0, 1_000_000) }),
  fail: object<NonNullable<StateChange["fail"]>>({
    upload: fault,
    store_creation: fault,
    indexing: fault,
    poll: fault,
    list: fault,
    deletion: fault,
    removal: fault,
    file_deletion: fault,
    store_deletion: fault,
  }),
  default_scenario: scenario,
  summary_scenario: scenario,
});

/** What of the storage's behaviour is programmed. */
export class Behaviour {
  missingDeletes: "ok" | "not_found" = "ok";
  indexing: Indexing = { status: "completed", polls: 0 };
  faults: Faults = {};

  change({ missing_deletes, indexing, fail }: StateChange): void {
    this.missingDeletes = missing_deletes ?? this.missingDeletes;
    this.indexing = { ...this.indexing, ...indexing };
    this.faults = withoutNull({ ...this.faults, ...fail });
  }

  /** The fault the first of these operations that has one meets, which is used up by it; null when none has. */
  take(...names: readonly Operation[]): Fault | null {
    const operation = names.find((name) => this.faults[name] !== undefined);
    const fault = operation === undefined ? undefined : this.faults[operation];
    if (operation === undefined || fault === undefined) return null;
    this.faults = withoutNull({
      ...this.faults,
      [operation]: fault.times > 1 ? { ...fault, times: fault.times - 1 } : null,
    });
    return fault;
  }

  reset(): void {
    this.missingDeletes = "ok";
    this.indexing = { status: "completed", polls: 0 };
    this.faults = {};
  }
}

const withoutNull = (faults: NonNullable<StateChange["fail"]>): Faults =>
  Object.fromEntries(Object.entries(faults).filter(([, fault]) => fault !== null));
