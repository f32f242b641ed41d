/** A flag of a command; without `value`, the name of what it takes, it is a switch. */
export interface Flag {
  readonly value?: string;
  readonly help: string;
}

/** A command line that makes no sense; the message names the flag. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** A command line taken apart; what the flags hold is not judged yet. */
export interface Words {
  readonly values: ReadonlyMap<string, string>;
  readonly switches: ReadonlySet<string>;
  /** What is no flag, in order. */
  readonly rest: readonly string[];
  /** Configuration values by dotted key. */
  readonly overrides: Readonly<Record<string, string>>;
}

/**
 * Takes a command line apart: known flags as `--name value` or `--name=value`, and configuration keys,
 * which have a dot. Throws `UsageError` for an unknown flag, a missing value or a flag given twice.
 */
export const takeFlags = (argv: readonly string[], flags: Readonly<Record<string, Flag>>): Words => {
  const values = new Map<string, string>();
  const switches = new Set<string>();
  const overrides: Record<string, string> = {};
  const rest: string[] = [];
  const left = [...argv];
  for (let word = left.shift(); word !== undefined; word = left.shift()) {
    if (!word.startsWith("--")) {
      rest.push(word);
      continue;
    }
    const at = word.indexOf("=");
    const name = word.slice(2, at < 0 ? undefined : at);
    const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
    if (flag === undefined && !name.includes(".")) throw new UsageError(`unknown flag --${name}`);
    if (values.has(name) || switches.has(name)) throw new UsageError(`--${name} is given twice`);
    if (flag !== undefined && flag.value === undefined) {
      if (at >= 0) throw new UsageError(`--${name} takes no value`);
      switches.add(name);
      continue;
    }
    const value = at < 0 ? left.shift() : word.slice(at + 1);
    if (value === undefined || (at < 0 && value.startsWith("--"))) {
      throw new UsageError(`--${name} needs a value`);
    }
    if (flag === undefined) overrides[name] = value;
    else values.set(name, value);
  }
  return { values, switches, rest, overrides };
};

/** Whole number of a flag or an argument within bounds; throws `UsageError` with its name. */
export const readInt = (name: string, text: string, min: number, max: number): number => {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new UsageError(`${name} must be a whole number from ${min} to ${max}, not ${shown(text)}`);
};

export const readChoice = <const T extends string>(name: string, text: string, choices: readonly T[]): T => {
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`${name} must be one of ${choices.join(", ")}, not ${shown(text)}`);
};

const maxShown = 60;

/** What somebody typed, fit for one line of a terminal. */
export const shown = (text: string): string =>
  JSON.stringify(text.length > maxShown ? `${text.slice(0, maxShown)}…` : text);

/** The flags, one a line, aligned, for a usage text. */
export const describeFlags = (flags: Readonly<Record<string, Flag>>): string => {
  const lines = Object.entries(flags).map(
    ([name, { value, help }]) => [`--${name}${value === undefined ? "" : ` ${value}`}`, help] as const,
  );
  const width = Math.max(...lines.map(([left]) => left.length));
  return lines.map(([left, help]) => `  ${left.padEnd(width)}  ${help}`).join("\n");
};
