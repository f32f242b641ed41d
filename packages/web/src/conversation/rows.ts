import type { Part } from "../markdown/blocks.ts";
import type { Markers } from "../markdown/SourceMark.tsx";
import { markersOf } from "./answer-markers.ts";
import { isRunning, type TurnView } from "./turn-view.ts";

/** What the list of messages is made of: a long answer is many rows, of which only the visible ones exist. */
export type Row =
  | { readonly kind: "question"; readonly key: string; readonly turn: TurnView; readonly last: boolean }
  | { readonly kind: "head"; readonly key: string; readonly turn: TurnView }
  | {
      readonly kind: "part";
      readonly key: string;
      readonly part: Part;
      readonly open: boolean;
      readonly markers: Markers | null;
    }
  | { readonly kind: "foot"; readonly key: string; readonly turn: TurnView; readonly last: boolean };

const make = (turn: TurnView, last: boolean): readonly Row[] => {
  const { key, question, answer } = turn;
  const running = isRunning(turn);
  const rows: Row[] = [];
  if (question !== undefined) rows.push({ kind: "question", key: `${key} q`, turn, last });
  rows.push({ kind: "head", key: `${key} h`, turn });
  const markers = markersOf(answer);
  answer.parts.forEach((part, at) => {
    const open = running && at === answer.parts.length - 1;
    rows.push({ kind: "part", key: `${key} ${at}`, part, open, markers });
  });
  rows.push({ kind: "foot", key: `${key} f`, turn, last });
  return rows;
};

const known = new WeakMap<TurnView, { readonly last: boolean; readonly rows: readonly Row[] }>();

const rowsOfTurn = (turn: TurnView, last: boolean): readonly Row[] => {
  const found = known.get(turn);
  if (found !== undefined && found.last === last) return found.rows;
  const rows = make(turn, last);
  known.set(turn, { last, rows });
  return rows;
};

/** The rows of a conversation; those of a turn that has not changed are the same objects as before. */
export const rowsOf = (turns: readonly TurnView[]): readonly Row[] =>
  turns.flatMap((turn, at) => rowsOfTurn(turn, at === turns.length - 1));
