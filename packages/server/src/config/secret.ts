import { inspect } from "node:util";

/**
 * A configured secret. Printing, logging, inspecting or serialising it gives `***`; only `reveal()`
 * gives the text (ops.md §2.1).
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The secret itself: pass it straight to what needs it, never keep or log it. */
  reveal(): string {
    return this.#text;
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
