import { builtinScenario, builtinScenarios, scenarioForText } from "./builtin.ts";
import { InvalidInput } from "./checks.ts";
import type { Scenario } from "./scenario.ts";

/** What was programmed: the override queue, and the answers where nothing else decides. */
export class Program {
  readonly #queue: Scenario[] = [];
  /** To texts no row of the table knows. */
  fallback: Scenario | null = null;
  /** To requests for a thread summary. */
  summary: Scenario | null = null;

  get waiting(): number {
    return this.#queue.length;
  }

  enqueue(scenarios: readonly Scenario[]): void {
    this.#queue.push(...scenarios);
  }

  clear(): void {
    this.#queue.length = 0;
  }

  /**
   * The first two steps of providers.md §11.2, which need no request body: the head of the queue, consumed
   * by this, then the header. Throws `InvalidInput` for a name nobody knows.
   */
  chooseBeforeBody(headerName: string | undefined): Scenario | null {
    const head = this.#queue.shift();
    if (head !== undefined) return head;
    if (headerName === undefined) return null;
    const named = builtinScenario(headerName);
    if (named !== null) return named;
    throw new InvalidInput(
      `x-sim-scenario ${JSON.stringify(headerName)} is unknown; known are ${Object.keys(builtinScenarios).join(", ")}`,
    );
  }

  /**
   * The third step: by what the request is for, then by the text of the last user message. Questions without
   * a row, and FILESEARCH, are answered from the documents the request offers, if these have an answer.
   */
  chooseByRequest(
    request: { readonly isSummary: boolean; readonly lastUserText: string },
    fromDocuments: () => Scenario | null,
  ): Scenario {
    if (request.isSummary) return this.summary ?? builtinScenarios.summary;
    const row = scenarioForText(request.lastUserText);
    if (row !== null && row !== builtinScenarios.filesearch) return row;
    return row === null
      ? (this.fallback ?? fromDocuments() ?? builtinScenarios.default)
      : (fromDocuments() ?? row);
  }
}
