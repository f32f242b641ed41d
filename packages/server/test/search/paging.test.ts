import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeEach, expect, test } from "vitest";
import { encodeCursor, parseListQuery } from "../../src/http/paging.ts";
import { hitList } from "../../src/search/find.ts";
import { readQuery } from "../../src/search/query.ts";
import { startApiApp } from "../api/support.ts";
import { callers } from "../support/config.ts";

const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());
beforeEach(() => app.db.query("delete from chats"));

const { ann } = callers;
const day = 86_400_000;

interface Row {
  readonly id: string;
  readonly kind: "message" | "title";
  readonly daysAgo: number;
  readonly found: boolean;
}

// Often the same instant, within and across the periods of the index.
const rows: fc.Arbitrary<Row[]> = fc.uniqueArray(
  fc.record({
    id: fc.uuid(),
    kind: fc.constantFrom("message", "message", "message", "title"),
    daysAgo: fc.constantFrom(0, 1, 20, 40, 65, 66, 200, 700),
    found: fc.constantFrom(true, true, true, false),
  }),
  { selector: ({ id }) => id, maxLength: 14 },
);

const now = Date.now() - 1_000;
const at = ({ daysAgo }: Row): string => new Date(now - daysAgo * day).toISOString();

const fill = async (all: readonly Row[]): Promise<void> => {
  await app.db.query("delete from chats");
  const chatId = await app.createChat();
  const text = ({ found }: Row): string => (found ? "the needle" : "the hay");
  for (const row of all) {
    await (row.kind === "title"
      ? app.db.query(
          `insert into chats (id, tenant_id, user_id, model, title, created_at) values ($1, $2, $3, 'standard', $4, $5)`,
          [row.id, ann.tenantId, ann.userId, text(row), at(row)],
        )
      : app.db.query(
          `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
           values ($1, $2, $3, gen_random_uuid(), 'user', $4, $5)`,
          [row.id, ann.tenantId, chatId, text(row), at(row)],
        ));
  }
};

const get = async (query: Record<string, string>) => {
  const { status, body } = await app.call("GET", `/search?${new URLSearchParams(query)}`);
  expect(status, JSON.stringify(body)).toBe(200);
  const ids: string[] = body.items.map(
    (hit: { message_id?: string; chat_id: string }) => hit.message_id ?? hit.chat_id,
  );
  return { ids, info: body.page_info };
};

test("walking the hits forwards, then backwards, by pages of any size visits each once each way, newest first", async () => {
  await fc.assert(
    fc.asyncProperty(
      rows,
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom("needle", '"the needle"', "need*"),
      async (all, size, q) => {
        await fill(all);
        const limit = String(size);
        const forwards: string[] = [];
        let page = await get({ q, limit });
        expect(page.info.prev_cursor).toBeNull();
        for (;;) {
          forwards.push(...page.ids);
          if (page.info.next_cursor === null) break;
          page = await get({ q, limit, cursor: page.info.next_cursor });
        }
        const backwards = [...page.ids];
        while (page.info.prev_cursor !== null) {
          page = await get({ q, limit, cursor: page.info.prev_cursor });
          backwards.unshift(...page.ids);
        }
        const expected = all
          .filter(({ found }) => found)
          .toSorted((a, b) => a.daysAgo - b.daysAgo || (a.id < b.id ? 1 : -1))
          .map(({ id }) => id);
        expect(forwards).toEqual(expected);
        expect(backwards).toEqual(expected);
      },
    ),
    { numRuns: 60 },
  );
}, 120_000);

test("hits that come or go between two pages are neither skipped nor repeated around the edge", async () => {
  const all = [0, 1, 2, 3, 4, 5].map(
    (daysAgo): Row => ({ id: randomUUID(), kind: "message", daysAgo, found: true }),
  );
  await fill(all);
  const first = await get({ q: "needle", limit: "2" });
  await app.db.query("update messages set deleted_at = now() where id = any($1::uuid[])", [
    [all[1]?.id, all[2]?.id],
  ]);
  const second = await get({ q: "needle", limit: "2", cursor: first.info.next_cursor });
  expect(second.ids).toEqual([all[3]?.id, all[4]?.id]);
});

test("a cursor belongs to one query and to nobody: another query refuses it, another user finds only his own", async () => {
  await fill([0, 1, 2].map((daysAgo) => ({ id: randomUUID(), kind: "message", daysAgo, found: true })));
  const { info } = await get({ q: "needle", limit: "1" });
  for (const q of ["needles", "needle*", "hay"]) {
    const answer = await app.call("GET", `/search?${new URLSearchParams({ q, cursor: info.next_cursor })}`);
    expect([answer.status, answer.body.code]).toEqual([400, "invalid_cursor"]);
  }
  const list = await app.call("GET", `/chats?${new URLSearchParams({ cursor: info.next_cursor })}`);
  expect([list.status, list.body.code]).toEqual([400, "invalid_cursor"]);
  const others = await app.call(
    "GET",
    `/search?${new URLSearchParams({ q: "needle", cursor: info.next_cursor })}`,
    {
      caller: callers.amy,
    },
  );
  expect(others.body.items).toEqual([]);
});

test("a forged cursor of any time is no harm", async () => {
  await fill([{ id: randomUUID(), kind: "message", daysAgo: 1, found: true }]);
  const table = hitList(readQuery("needle"));
  const request = parseListQuery(table, {});
  for (const time of ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"]) {
    for (const direction of ["next", "prev"] as const) {
      const cursor = encodeCursor(table, request, {
        direction,
        inclusive: false,
        keys: [time, randomUUID()],
      });
      const { ids } = await get({ q: "needle", cursor });
      expect(ids).toHaveLength((direction === "next") === time.startsWith("9999") ? 1 : 0);
    }
  }
});
