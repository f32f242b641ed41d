import { type Check, either, integer, object, oneOf, text } from "./scenario/checks.ts";
import { parseScenario } from "./scenario/parse.ts";
import type { Scenario } from "./scenario/scenario.ts";
import { type Indexing, indexingStatuses } from "./storage/vector-stores.ts";

export const operations = ["upload", "store_creation", "indexing", "deletion"] as const;
/** `indexing` is adding a file to a store; `deletion` is of files, stores and files in stores. */
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
    deletion: fault,
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

  /** The fault this operation meets, which is used up by it; null when it meets none. */
  take(operation: Operation): Fault | null {
    const fault = this.faults[operation];
    if (fault === undefined) return null;
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
