import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { type Caller, callers } from "../support/config.ts";
import type { ApiApp } from "./support.ts";

/** One row of a list under test; `text` is the title of a chat or the role of a message. */
export interface ListedRow {
  readonly id: string;
  readonly text: string | null;
  readonly at: string;
}

export interface ListUnderTest {
  readonly name: string;
  /** Names of the datetime and the string field. */
  readonly at: "updated_at" | "created_at";
  readonly text: "title" | "role";
  readonly texts: readonly (string | null)[];
  readonly defaultOrder: string;
  /** Fields of an item, for `$select`. */
  readonly fields: readonly string[];
  /** Stores the rows as a list of their own; its path. */
  fill(app: ApiApp, rows: readonly ListedRow[]): Promise<string>;
}

/** Whose chats are the list under test. */
export const lister: Caller = callers.bob;

const chats: ListUnderTest = {
  name: "/chats",
  at: "updated_at",
  text: "title",
  texts: [null, "a", "A", "ab", "ä", "50%", "_", "it's", "B", "\u{1f600}", "ﬀ"],
  defaultOrder: "updated_at desc",
  fields: ["id", "model", "title", "is_temporary", "expires_at", "message_count", "created_at", "updated_at"],
  fill: async (app, rows) => {
    await app.db.query("delete from chats where user_id = $1", [lister.userId]);
    await app.db.query(
      `insert into chats (id, tenant_id, user_id, model, title, created_at, updated_at)
       select r.id, $1, $2, 'standard', r.title, r.at, r.at
       from unnest($3::uuid[], $4::text[], $5::timestamptz[]) as r (id, title, at)`,
      [lister.tenantId, lister.userId, ...columns(rows)],
    );
    return "/chats";
  },
};

const messages: ListUnderTest = {
  name: "/chats/{id}/messages",
  at: "created_at",
  text: "role",
  texts: ["user", "assistant", "system"],
  defaultOrder: "created_at",
  fields: [
    "id",
    "request_id",
    "role",
    "content",
    "attachments",
    "my_reaction",
    "model",
    "input_tokens",
    "output_tokens",
    "created_at",
  ],
  fill: async (app, rows) => {
    const chatId = await app.createChat(lister);
    await app.db.query("delete from messages where tenant_id = $1", [lister.tenantId]);
    await app.db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
       select r.id, $1, $2, gen_random_uuid(), r.role, 'text', r.at
       from unnest($3::uuid[], $4::text[], $5::timestamptz[]) as r (id, role, at)`,
      [lister.tenantId, chatId, ...columns(rows)],
    );
    return `/chats/${chatId}/messages`;
  },
};

const columns = (rows: readonly ListedRow[]): readonly unknown[] => [
  rows.map(({ id }) => id),
  rows.map(({ text }) => text),
  rows.map(({ at }) => at),
];

export const lists: readonly ListUnderTest[] = [chats, messages];

// One microsecond apart, one whole second, and often the same.
export const instants = [
  "2026-03-01T10:15:31.204518Z",
  "2026-03-01T10:15:31.204519Z",
  "2026-03-01T10:15:31Z",
];

/** Rows of a list, their order keys often or always equal. */
export const arbitraryRows = (list: ListUnderTest): fc.Arbitrary<readonly ListedRow[]> => {
  const rows = (texts: readonly (string | null)[], times: readonly string[]): fc.Arbitrary<ListedRow[]> =>
    fc.uniqueArray(
      fc.record({
        id: fc.uuid(),
        text: fc.constantFrom(...texts),
        at: fc.constantFrom(...times),
      }),
      { selector: ({ id }) => id, maxLength: 12 },
    );
  return fc.oneof(rows(list.texts, instants), rows(list.texts.slice(0, 1), instants.slice(0, 1)));
};

/** So many rows with equal order keys. */
export const equalRows = (count: number, text: string | null): readonly ListedRow[] =>
  Array.from({ length: count }, () => ({ id: randomUUID(), text, at: instants[0] ?? "" }));

const bytes = (text: string): string => Buffer.from(text).toString("hex");

/** The ids in the order of api.md §4, computed without a database. */
export const sortedIds = (
  list: ListUnderTest,
  rows: readonly ListedRow[],
  orderBy: string = list.defaultOrder,
): readonly string[] => {
  const keys = orderBy.split(",").map((part) => {
    const [field = "", direction = "asc"] = part.trim().split(/\s+/);
    return { field, sign: direction === "desc" ? -1 : 1 };
  });
  if (!keys.some(({ field }) => field === "id")) keys.push({ field: "id", sign: keys.at(-1)?.sign ?? 1 });
  const keyOf = (row: ListedRow, field: string): string => {
    if (field === "id") return row.id;
    // A chat without title sorts as the empty title.
    return field === list.text ? bytes(row.text ?? "") : row.at.replace(/:31Z/, ":31.000000Z");
  };
  return rows
    .toSorted((one, other) => {
      for (const { field, sign } of keys) {
        const [left, right] = [keyOf(one, field), keyOf(other, field)];
        if (left !== right) return left < right ? -sign : sign;
      }
      return 0;
    })
    .map(({ id }) => id);
};
