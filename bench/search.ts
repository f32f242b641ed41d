import pg from "pg";
import { nowNs, rounded } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const MESSAGES = 1_000_000;
const ROUNDS = 40;
const WARM_UP = 3;
const WRITES = 2_000;

/**
 * Asked too, but not of the kind that is usual: a phrase of words that are everywhere but never
 * side by side, and a beginning that stands for a word in every message of everybody.
 */
const extremes: readonly string[] = ["phrase_absent_of_words_everywhere", "beginning_everywhere"];

/** Who searches, and how many messages are his. The first shares his tenant with 300,000 more. */
const searchers = [
  { name: "owner_of_50000", messages: 50_000 },
  { name: "owner_of_5000", messages: 5_000 },
  { name: "owner_of_500", messages: 500 },
] as const;

type Searcher = (typeof searchers)[number] & { readonly user: User };

/**
 * A million messages of 300 tenants in two years: one tenant has a third of them, the others less and less,
 * and so have the users of each. Words are as frequent as in a language (the n-th a n-th as often), of
 * 50,000 different ones; "the" is in every message, and each has a number of its own.
 */
const fillStatements = (known: readonly Searcher[]): readonly string[] => [
  "alter table messages drop constraint messages_chat_fkey, disable trigger messages_owner",
  `create temporary table pieces as
   select no, string_agg('w' || translate(to_hex(floor(exp(random() * ln(50000)))::int + 15), '0123456789', 'ghijklmnop'), ' ') as text
   from generate_series(0, 19999) as no, generate_series(1, 20) as word
   where word + no > 0
   group by no`,
  "alter table pieces add primary key (no)",
  `create temporary table owners as
   select tenant_id, user_id, messages
   from (values ${known.map(({ user, messages }) => `('${user.tenantId}'::uuid, '${user.userId}'::uuid, ${messages})`).join(", ")})
     as v (tenant_id, user_id, messages)
   union all
   select
     case t when 0 then '${known[0]?.user.tenantId}'::uuid else md5('tenant ' || t)::uuid end,
     md5('user ' || t || ' ' || u)::uuid,
     greatest(20, (case t when 0 then 280000 else 660000 / (5.5 * (t + 1)) end
       * (1.0 / (u + 2)) / (select sum(1.0 / (n + 2)) from generate_series(0, 300 / (t + 1)) as n))::int)
   from generate_series(0, 299) as t, generate_series(0, 300 / (t + 1)) as u`,
  `create temporary table filled_chats as
   select gen_random_uuid() as chat_id, tenant_id, user_id, now() - random() * interval '720 days' - interval '1 hour' as at
   from owners, generate_series(1, greatest(1, messages / 20))`,
  `insert into chats (id, tenant_id, user_id, model, title, created_at, updated_at)
   select c.chat_id, c.tenant_id, c.user_id, 'standard', left(p.text, 40), c.at, c.at
   from (select *, floor(random() * 20000)::int as piece from filled_chats) c
   join pieces p on p.no = c.piece`,
  `insert into messages (id, tenant_id, user_id, chat_id, request_id, role, content, request_kind, created_at)
   select
     gen_random_uuid(), x.tenant_id, x.user_id, x.chat_id, gen_random_uuid(),
     case x.no % 2 when 0 then 'user' else 'assistant' end,
     'The ' || a.text || '. ' || b.text || case x.no % 2 when 0 then '' else ', ' || c.text || ' ' || d.text end
       || ' ref' || row_number() over (),
     'chat', x.at
   from (
     select
       f.tenant_id, f.user_id, f.chat_id, no, f.at + no * interval '1 minute' as at, floor(random() * 20000)::int as first,
       floor(random() * 20000)::int as second, floor(random() * 20000)::int as third, floor(random() * 20000)::int as fourth
     from filled_chats f, generate_series(0, 19) as no
   ) x
   join pieces a on a.no = x.first
   join pieces b on b.no = x.second
   join pieces c on c.no = x.third
   join pieces d on d.no = x.fourth
   order by x.at
   limit ${MESSAGES}`,
];

const one = async <Row extends pg.QueryResultRow>(
  client: pg.Client,
  sql: string,
  values: unknown[] = [],
): Promise<Row> => {
  const row = (await client.query<Row>(sql, values)).rows[0];
  if (row === undefined) throw new Error(`no row: ${sql}`);
  return row;
};

/** Fills the table without its index and builds that afterwards, as a restore does. */
const fill = async (client: pg.Client, known: readonly Searcher[]): Promise<object> => {
  const { def } = await one<{ def: string }>(
    client,
    "select pg_get_indexdef('messages_search_idx'::regclass) as def",
  );
  await client.query("drop index messages_search_idx");
  for (const statement of fillStatements(known)) await client.query(statement);
  await client.query("set maintenance_work_mem = '512MB'");
  const begin = nowNs();
  await client.query(def);
  const buildMs = Number(nowNs() - begin) / 1e6;
  await client.query("vacuum analyze messages");
  await client.query("vacuum analyze chats");
  const sizes = await one<object>(
    client,
    `select
       count(*)::int as messages, count(distinct tenant_id)::int as tenants, count(distinct user_id)::int as users,
       avg(length(content))::int as mean_characters,
       round(pg_table_size('messages') / 1048576.0)::int as table_mib,
       round(pg_relation_size('messages_search_idx') / 1048576.0)::int as index_mib
     from messages`,
  );
  return { ...sizes, index_build_s: Math.round(buildMs / 1_000) };
};

/** What is asked of one owner; words are taken from a message of his, as one searches for what was said. */
const questionsOf = async (client: pg.Client, { user }: Searcher): Promise<Record<string, string>> => {
  const { content } = await one<{ content: string }>(
    client,
    "select content from messages where user_id = $1 order by random() limit 1",
    [user.userId],
  );
  const words = content.replaceAll(/[.,]/g, "").split(" ");
  const rare = words.toSorted((a, b) => b.length - a.length).find((word) => word.startsWith("w")) ?? "";
  const { content: foreign } = await one<{ content: string }>(
    client,
    "select content from messages where user_id <> $1 order by random() limit 1",
    [user.userId],
  );
  return {
    in_every_message: "the",
    frequent: "wg5",
    frequent_pair: `the ${words[1]}`,
    seldom: rare,
    unique: words.at(-1) ?? "",
    of_others: foreign.split(" ").at(-1) ?? "",
    nothing: "nowhere",
    phrase: `"${words[2]} ${words[3]}"`,
    phrase_absent_of_words_everywhere: '"the the"',
    without: `${words[1]} -${words[2]}`,
    either: `${rare} or ${words[1]}`,
    beginning: `${rare.slice(0, 4)}*`,
    beginning_everywhere: "the*",
  };
};

const ask = async (
  stack: Stack,
  user: User,
  query: Record<string, string>,
): Promise<{ ms: number; next: string | null; givenUp: boolean }> => {
  const begin = nowNs();
  const response = await fetch(
    `http://127.0.0.1:${stack.serverPort}/v1/search?${new URLSearchParams(query)}`,
    {
      headers: { authorization: `Bearer ${user.token}` },
    },
  );
  const page: unknown = await response.json();
  const ms = Number(nowNs() - begin) / 1e6;
  if (response.status === 503) return { ms, next: null, givenUp: true };
  const info: unknown = typeof page === "object" && page !== null ? Reflect.get(page, "page_info") : null;
  if (!response.ok || typeof info !== "object" || info === null) throw new Error(JSON.stringify(page));
  const next: unknown = Reflect.get(info, "next_cursor");
  return { ms, next: typeof next === "string" ? next : null, givenUp: false };
};

/** The cost of one message of 600 characters in the table, with the index or without, in ms. */
const writeCost = async (client: pg.Client, { user }: Searcher): Promise<number> => {
  await client.query("alter table messages enable trigger messages_owner");
  const { ms } = await one<{ ms: number }>(
    client,
    `with begun as materialized (select clock_timestamp() as at),
     sent as materialized (
       select c.id as chat_id, string_agg(p.text, ', ') as text
       from (select id, row_number() over () as no from chats where user_id = $1 limit 100) c
       join generate_series(0, $2 / 100 - 1) as round on true
       join pieces p on p.no between (c.no * 20 + round) * 6 and (c.no * 20 + round) * 6 + 5
       group by c.id, round
     ),
     stored as (
       insert into messages (id, tenant_id, chat_id, request_id, role, content, request_kind, created_at)
       select gen_random_uuid(), $3, s.chat_id, gen_random_uuid(), 'user', s.text, 'chat', now()
       from sent s, begun
       returning id
     )
     select extract(epoch from clock_timestamp() - (select at from begun))::float8 * 1000 / count(*) as ms
     from stored`,
    [user.userId, WRITES, user.tenantId],
  );
  return ms;
};

/** The cost of marking a chat as active, in ms. */
const touchCost = async (client: pg.Client, { user }: Searcher): Promise<number> => {
  const begin = nowNs();
  const { rowCount } = await client.query("update chats set updated_at = now() where user_id = $1", [
    user.userId,
  ]);
  return Number(nowNs() - begin) / 1e6 / (rowCount ?? Number.NaN);
};

/** Searching a million messages of many tenants over HTTP, one search at a time, and what the index costs. */
export const run = (): Promise<object> =>
  withStack({ users: 48 }, async (stack) => {
    const client = new pg.Client({ connectionString: stack.databaseUrl });
    await client.connect();
    try {
      const known = searchers.map((searcher, at): Searcher => {
        const user = stack.users[at];
        if (user === undefined) throw new Error("no users");
        return { ...searcher, user };
      });
      const data = await fill(client, known);
      const samples = new Map<string, number[]>();
      const all: number[] = [];
      const givenUp: string[] = [];
      const machine = stack.machine();
      for (let round = -WARM_UP; round < ROUNDS; round += 1) {
        for (const searcher of known) {
          const { user } = searcher;
          for (const [question, q] of Object.entries(await questionsOf(client, searcher))) {
            const first = await ask(stack, user, { q });
            if (first.givenUp && round >= 0) givenUp.push(`${searcher.name} ${question}`);
            const asked = [[question, first.ms] as const];
            if (question === "in_every_message") {
              const second = await ask(stack, user, { q, cursor: first.next ?? "" });
              asked.push(["in_every_message_next_page", second.ms]);
            }
            if (round < 0) continue;
            for (const [name, ms] of asked) {
              if (!extremes.includes(name)) all.push(ms);
              const key = `${searcher.name} ${name}`;
              samples.set(key, [...(samples.get(key) ?? []), ms]);
            }
          }
        }
      }
      const used = machine();
      const [large] = known;
      if (large === undefined) throw new Error("no searchers");
      const withIndex = { message: await writeCost(client, large), touch: await touchCost(client, large) };
      await client.query("drop index messages_search_idx, chats_search_idx");
      const without = { message: await writeCost(client, large), touch: await touchCost(client, large) };
      return {
        data,
        search_ms: rounded(summarise(all)),
        given_up_after_2_s: givenUp,
        by_owner_and_question_ms: Object.fromEntries(
          [...samples].map(([name, list]) => {
            const { median, p95, max } = rounded(summarise(list));
            return [name, { median, p95, max }];
          }),
        ),
        write_ms: { with_indexes: withIndex, without: without },
        machine: used,
      };
    } finally {
      await client.end();
    }
  });
