import { inspect } from "node:util";

/**
 * A configured secret, most often a text. Printing, logging, inspecting or serialising it gives `***`;
 * only `reveal()` gives what it is (ops.md §2.1).
 */
export class Secret<T = string> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  /** The secret itself: pass it straight to what needs it, never keep or log it. */
  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return "***";
  }

  toJSON(): string {
    return "***";
  }

  [inspect.custom](): string {
    return "***";
  }
}
