import type { Flag } from "./flags.ts";

/** Flags of every command an operator has. */
export const commonFlags = {
  json: { help: "print JSON for machines" },
  config: { value: "FILE", help: "the configuration file; default: the development configuration" },
} as const satisfies Record<string, Flag>;

/** What they, and the configuration keys beside them, were set to. */
export interface OperatorArguments {
  readonly json: boolean;
  /** The configuration file; none: the development configuration. */
  readonly config: string | undefined;
  readonly flags: Readonly<Record<string, string>>;
}
