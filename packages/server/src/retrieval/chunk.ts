import type { Block, Place } from "./extract/block.ts";

/** From where to where a text goes, both inclusive and counted as `Place.number`. */
export interface Position {
  readonly kind: Place["kind"];
  readonly from: number;
  readonly to: number;
  readonly name?: string;
}

/** A piece of a document that is found and quoted as a whole. */
export interface Chunk {
  readonly text: string;
  readonly position: Position;
  /** How many UTF-16 units at the beginning repeat the end of the chunk before. */
  readonly overlap: number;
}

export interface ChunkSizes {
  /** The longest chunk, in UTF-16 units. */
  readonly size: number;
  /** At most this much of a chunk is repeated by the next one, in whole sentences. */
  readonly overlap: number;
}

/** An answer of two or three sentences fits; 10,000 of them are some 2,500 pages. */
export const chunkSizes: ChunkSizes = { size: 1_000, overlap: 150 };

/** A sentence or less, and how it is joined to what stands before it. */
interface Piece {
  readonly text: string;
  readonly place: Place;
  readonly join: "\n" | " " | "";
}

export interface Chunker {
  /** The chunks that are complete with this block. */
  add(block: Block): Chunk[];
  /** What is left. */
  end(): Chunk[];
}

const sameUnit = (a: Place, b: Place): boolean =>
  a.kind === b.kind && a.name === b.name && (a.kind !== "slide" || a.number === b.number);

/**
 * Packs blocks into chunks that break at blocks, else at sentences, else at words. A chunk never spans two
 * headings, sheets or slides. Pure: the same blocks give the same chunks.
 */
export const createChunker = (sizes: ChunkSizes = chunkSizes): Chunker => {
  let held: Piece[] = [];
  /** How many of `held` were in the chunk before as well. */
  let repeated = 0;
  let length = 0;

  const lengthOf = (pieces: readonly Piece[]): number =>
    pieces.reduce((sum, { text, join }, at) => sum + text.length + (at === 0 ? 0 : join.length), 0);

  const close = (): Chunk[] => {
    const [first] = held;
    const last = held.at(-1);
    if (first === undefined || last === undefined || repeated === held.length) return [];
    const overlap = lengthOf(held.slice(0, repeated));
    const { kind, name } = first.place;
    return [
      {
        text: held.map(({ text, join }, at) => (at === 0 ? text : join + text)).join(""),
        position: {
          kind,
          from: first.place.number,
          to: last.place.number,
          ...(name === undefined ? {} : { name }),
        },
        overlap,
      },
    ];
  };

  /** The last sentences that the next chunk repeats, if the next piece fits behind them. */
  const keepTail = (next: Piece): void => {
    let from = held.length;
    while (from > 1 && lengthOf(held.slice(from - 1)) <= sizes.overlap) from -= 1;
    const tail = held.slice(from);
    held = lengthOf([...tail, next]) <= sizes.size ? tail : [];
    repeated = held.length;
    length = lengthOf(held);
  };

  const push = (piece: Piece): Chunk[] => {
    let closed: Chunk[] = [];
    const last = held.at(-1);
    if (last !== undefined && !sameUnit(last.place, piece.place)) {
      closed = close();
      held = [];
      repeated = 0;
      length = 0;
    } else if (last !== undefined && length + piece.join.length + piece.text.length > sizes.size) {
      closed = close();
      keepTail(piece);
    }
    length += piece.text.length + (held.length === 0 ? 0 : piece.join.length);
    held.push(piece);
    return closed;
  };

  return {
    add: (block) =>
      [...piecesOf(block.text, sizes.size)].flatMap(({ text, join }) =>
        push({ text, join, place: block.place }),
      ),
    end: () => {
      const closed = close();
      held = [];
      repeated = 0;
      length = 0;
      return closed;
    },
  };
};

/** The sentences of a block; what is longer than a chunk is cut at words, and where there are none, anywhere. */
function* piecesOf(text: string, size: number): Generator<{ text: string; join: Piece["join"] }> {
  let join: Piece["join"] = "\n";
  for (const sentence of text.split(/(?<=[.!?…:;]["'”’)\]]?)\s+|(?<=[。！？])/u)) {
    const whole = sentence.trimEnd();
    for (let at = 0; at < whole.length; ) {
      const end = cutAt(whole, at, size);
      const piece = whole.slice(at, end).trimEnd();
      if (piece !== "") {
        yield { text: piece, join };
        join = "";
      }
      at = end;
    }
    if (whole !== "") join = /[。！？]$/u.test(whole) ? "" : " ";
  }
}

/** Where a piece that begins at `start` ends: whole code points, at a space in its last half if there is one. */
const cutAt = (text: string, start: number, size: number): number => {
  if (text.length - start <= size) return text.length;
  const space = text.lastIndexOf(" ", start + size - 1);
  if (space > start + size / 2) return space + 1;
  const end = start + size;
  const unit = text.charCodeAt(end);
  return unit >= 0xdc00 && unit <= 0xdfff && end - 1 > start ? end - 1 : end;
};
