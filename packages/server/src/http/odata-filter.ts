import { AppError } from "../errors.ts";
import { findField, type ListTable, notOffered, unparsable } from "./odata.ts";
import { type Literal, type Token, tokenize } from "./odata-tokens.ts";

export type Comparison = "eq" | "ne" | "gt" | "ge" | "lt" | "le";
export type TextFunction = "contains" | "startswith" | "endswith";

/** A filter whose fields exist and whose values have the types of their fields; null = missing. */
export type Filter =
  | { readonly op: "and" | "or"; readonly terms: readonly Filter[] }
  | { readonly op: "not"; readonly term: Filter }
  | { readonly op: Comparison; readonly field: string; readonly value: string | null }
  | { readonly op: "in"; readonly field: string; readonly values: readonly string[] }
  | { readonly op: TextFunction; readonly field: string; readonly value: string };

const comparisons: readonly string[] = ["eq", "ne", "gt", "ge", "lt", "le"] satisfies Comparison[];
const functions: readonly string[] = ["contains", "startswith", "endswith"] satisfies TextFunction[];
const isComparison = (text: string): text is Comparison => comparisons.includes(text);
const isFunction = (text: string): text is TextFunction => functions.includes(text);

const maxBytes = 8_192;
const maxNodes = 2_000;
const maxNesting = 100;

const tooComplex = (): AppError =>
  new AppError("invalid_filter", {
    status: 400,
    title: "Bad Request",
    detail: "$filter is too long or too complex.",
  });

// What the grammar yields, before fields and types are known: a text that does not parse is 422 even
// when it also names unknown fields.
type Syntax =
  | { readonly op: "and" | "or"; readonly terms: readonly Syntax[] }
  | { readonly op: "not"; readonly term: Syntax }
  | {
      readonly op: Comparison | "in" | TextFunction;
      readonly name: string;
      readonly literals: readonly Literal[];
    };

/**
 * Parses `$filter` against the fields of a list (grammar in api.md §4). Throws `invalid_filter`:
 * 422 for syntax; 400 for unknown fields, wrong literal types, and over 8 KiB, 2 000 nodes or 100 levels.
 */
export const parseFilter = (table: ListTable, text: string): Filter => {
  if (Buffer.byteLength(text) > maxBytes) throw tooComplex();
  const parser = new FilterParser(tokenize(text));
  return resolve(table, parser.parse());
};

class FilterParser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #nodes = 0;
  #nesting = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  parse(): Syntax {
    const syntax = this.#chain("or");
    if (this.#at < this.#tokens.length) throw this.#unexpected();
    return syntax;
  }

  #chain(op: "and" | "or"): Syntax {
    const operand = (): Syntax => (op === "or" ? this.#chain("and") : this.#not());
    const first = operand();
    const terms = [first];
    while (this.#takeWord(op)) terms.push(operand());
    return terms.length === 1 ? first : this.#node({ op, terms });
  }

  #not(): Syntax {
    return this.#takeWord("not") ? this.#node({ op: "not", term: this.#primary() }) : this.#primary();
  }

  #primary(): Syntax {
    if (this.#takeSymbol("(")) {
      this.#nesting += 1;
      if (this.#nesting > maxNesting) throw tooComplex();
      const inner = this.#chain("or");
      this.#expectSymbol(")");
      this.#nesting -= 1;
      return inner;
    }
    const name = this.#expectWord();
    if (isFunction(name) && this.#takeSymbol("(")) return this.#function(name);
    const operator = this.#expectWord();
    if (isComparison(operator)) return this.#node({ op: operator, name, literals: [this.#expectLiteral()] });
    if (operator !== "in") throw this.#unexpected(-1);
    this.#expectSymbol("(");
    const literals = [this.#expectLiteral()];
    while (this.#takeSymbol(",")) {
      literals.push(this.#expectLiteral());
      this.#count();
    }
    this.#expectSymbol(")");
    return this.#node({ op: "in", name, literals });
  }

  #function(op: TextFunction): Syntax {
    const name = this.#expectWord();
    this.#expectSymbol(",");
    const literal = this.#expectLiteral();
    // The grammar has a text here, nothing else.
    if (literal.kind !== "text") throw this.#unexpected(-1);
    this.#expectSymbol(")");
    return this.#node({ op, name, literals: [literal] });
  }

  #node(syntax: Syntax): Syntax {
    this.#count();
    return syntax;
  }

  #count(): void {
    this.#nodes += 1;
    if (this.#nodes > maxNodes) throw tooComplex();
  }

  #takeWord(text: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.type !== "word" || token.text !== text) return false;
    this.#at += 1;
    return true;
  }

  #takeSymbol(text: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.type !== "symbol" || token.text !== text) return false;
    this.#at += 1;
    return true;
  }

  #expectSymbol(text: string): void {
    if (!this.#takeSymbol(text)) throw this.#unexpected();
  }

  #expectWord(): string {
    const token = this.#tokens[this.#at];
    if (token?.type !== "word") throw this.#unexpected();
    this.#at += 1;
    return token.text;
  }

  #expectLiteral(): Literal {
    const token = this.#tokens[this.#at];
    if (token?.type !== "literal") throw this.#unexpected();
    this.#at += 1;
    return token.literal;
  }

  #unexpected(offset = 0): AppError {
    const at = this.#at + offset;
    const where = at < this.#tokens.length ? `at its part ${at + 1}` : "at its end";
    return unparsable("invalid_filter", `$filter cannot be read ${where}.`);
  }
}

const resolve = (table: ListTable, syntax: Syntax): Filter => {
  if ("terms" in syntax) {
    return { op: syntax.op, terms: syntax.terms.map((term) => resolve(table, term)) };
  }
  if ("term" in syntax) return { op: "not", term: resolve(table, syntax.term) };
  const field = findField(table, syntax.name);
  if (field === undefined) throw notOffered("invalid_filter", `There is no filtering by ${syntax.name}.`);
  const values = syntax.literals.map((literal) => literalValue(table, field, literal));
  if (syntax.op === "in") return { op: "in", field, values: values.map((value) => present(value)) };
  const [value = null] = values;
  if (isFunction(syntax.op)) {
    if (table.fields[field]?.type === "string") return { op: syntax.op, field, value: present(value) };
    throw notOffered("invalid_filter", `${syntax.op} is not offered for ${field}.`);
  }
  return { op: syntax.op, field, value: syntax.op === "eq" || syntax.op === "ne" ? value : present(value) };
};

const present = (value: string | null): string => {
  if (value === null) throw notOffered("invalid_filter", "null is offered with eq and ne only.");
  return value;
};

/** The value of a literal for this field; null for the literal null. */
const literalValue = (table: ListTable, field: string, literal: Literal): string | null => {
  if (literal.kind === "null") return null;
  const type = table.fields[field]?.type;
  const fits =
    literal.kind === "text"
      ? type === "string"
      : literal.kind === "date"
        ? type === "datetime"
        : literal.kind === type;
  if (fits) return literal.value;
  throw notOffered("invalid_filter", `${field} cannot be compared with a value of this type.`);
};
