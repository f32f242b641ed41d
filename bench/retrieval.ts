import { randomUUID } from "node:crypto";
import pg from "pg";
import { asTenantId, type TenantId } from "../packages/server/src/auth/actor.ts";
import { Db } from "../packages/server/src/db/pool.ts";
import { findExcerpts } from "../packages/server/src/retrieval/find.ts";
import { cpuMs, digits, familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { measureDeltas } from "./retrieval/deltas.ts";
import { scaled, summarise } from "./support.ts";

const DOCUMENTS = 50;
const CHUNKS = 10_000;
const OTHER_CHUNKS = scaled(500_000, 5_000);
const OTHER_CHATS = 2_000;
const ROUNDS = scaled(150, 5);
const WARM_UP = 3;

interface Chat {
  readonly tenantId: TenantId;
  readonly chatId: string;
}

/**
 * Chunks of 1,000 characters. Words are as frequent as in a language (the n-th a n-th as often), of 50,000
 * different ones, in all chats the same; one chat has 50 documents of 200 chunks, the others share the rest.
 */
const fillStatements = ({ tenantId, chatId }: Chat): readonly string[] => [
  "alter table local_chunks drop constraint local_chunks_file_fkey",
  `create temporary table pieces as
   select no, string_agg('w' || translate(to_hex(floor(exp(random() * ln(50000)))::int + 15), '0123456789', 'ghijklmnop'), ' ') as text
   from generate_series(0, 19999) as no, generate_series(1, 40) as word
   where word + no > 0
   group by no`,
  "alter table pieces add primary key (no)",
  `insert into chats (id, tenant_id, user_id, model) values ('${chatId}', '${tenantId}', gen_random_uuid(), 'standard')`,
  `insert into local_stores (id, tenant_id, provider_id) values ('${chatId}', '${tenantId}', 'p')`,
  `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
     storage_backend, provider_id, provider_file_id, status, attachment_kind, for_file_search)
   select md5('file ' || no)::uuid, '${tenantId}', '${chatId}', gen_random_uuid(), no || '.pdf', 'application/pdf', 1,
     'p', 'p', md5('file ' || no)::uuid::text, 'ready', 'document', true
   from generate_series(1, ${DOCUMENTS}) as no`,
  `insert into local_files (id, tenant_id, chat_id, attachment_id, provider_id, name, content_type, bytes, store_id,
     index_status, chunks)
   select md5('file ' || no)::uuid, '${tenantId}', '${chatId}', md5('file ' || no)::uuid, 'p', no || '.pdf',
     'application/pdf', 1, '${chatId}', 'completed', ${CHUNKS / DOCUMENTS}
   from generate_series(1, ${DOCUMENTS}) as no`,
  `create temporary table places as
   select '${tenantId}'::uuid as tenant_id, '${chatId}'::uuid as chat_id, md5('file ' || file)::uuid as file_id, no
   from generate_series(1, ${DOCUMENTS}) as file, generate_series(0, ${CHUNKS / DOCUMENTS - 1}) as no
   union all
   select md5('tenant ' || no % 300)::uuid, md5('chat ' || no % ${OTHER_CHATS})::uuid, md5('other ' || no % ${OTHER_CHATS})::uuid,
     no / ${OTHER_CHATS}
   from generate_series(0, ${OTHER_CHUNKS - 1}) as no`,
  `insert into local_chunks (tenant_id, chat_id, file_id, no, content, overlap, place_kind, place_from, place_to, words)
   select tenant_id, chat_id, file_id, no, text, 0, 'page', no / 3 + 1, no / 3 + 1, to_tsvector('pg_catalog.simple', text)
   from (
     select x.*, a.text || '. ' || b.text || '. ' || c.text || '. ' || d.text || '. ' || e.text || ' ref' || row_number() over () as text
     from (
       select *, floor(random() * 20000)::int as p1, floor(random() * 20000)::int as p2, floor(random() * 20000)::int as p3,
         floor(random() * 20000)::int as p4, floor(random() * 20000)::int as p5
       from places
     ) x
     join pieces a on a.no = p1
     join pieces b on b.no = p2
     join pieces c on c.no = p3
     join pieces d on d.no = p4
     join pieces e on e.no = p5
   ) x
   order by tenant_id, chat_id, file_id, no`,
];

/** Fills the table without its index and builds that afterwards, as a restore does. */
const fill = async (client: pg.Client, chat: Chat): Promise<object> => {
  const index = await client.query<{ def: string }>(
    "select pg_get_indexdef('local_chunks_words_idx'::regclass) as def",
  );
  await client.query("drop index local_chunks_words_idx");
  for (const statement of fillStatements(chat)) await client.query(statement);
  await client.query("set maintenance_work_mem = '512MB'");
  await client.query(index.rows[0]?.def ?? "");
  await client.query("vacuum analyze local_chunks");
  await client.query("vacuum analyze local_files");
  await client.query("vacuum analyze attachments");
  const sizes = await client.query<object>(
    `select
       count(*)::int as chunks, count(distinct chat_id)::int as chats, avg(length(content))::int as mean_characters,
       round(pg_table_size('local_chunks') / 1048576.0)::int as table_mib,
       round(pg_relation_size('local_chunks_words_idx') / 1048576.0)::int as index_mib
     from local_chunks`,
  );
  return sizes.rows[0] ?? {};
};

/** What is asked of the chat; the words are from a passage of it, as one asks for what stands there. */
const questionsOf = async (
  client: pg.Client,
  { tenantId, chatId }: Chat,
): Promise<Record<string, string>> => {
  const { rows } = await client.query<{ content: string }>(
    "select content from local_chunks where tenant_id = $1 and chat_id = $2 order by random() limit 1",
    [tenantId, chatId],
  );
  const words = (rows[0]?.content ?? "").replaceAll(".", "").split(" ");
  return {
    three_words: words.slice(3, 6).join(" "),
    a_sentence: `What does it say about ${words.slice(10, 20).join(" ")}?`,
    a_long_message: words.slice(0, 120).join(" "),
    the_most_frequent_words: "whg whh whi whj whk whl",
    one_frequent_word: "whg",
    one_reference: words.at(-1) ?? "",
    nothing: "nowhere",
  };
};

const measureFinding = async (
  db: Db,
  client: pg.Client,
  chat: Chat,
  postgresPid: number,
): Promise<object> => {
  const samples = new Map<string, number[]>();
  const all: number[] = [];
  let found = 0;
  let cpu = 0;
  for (let round = -WARM_UP; round < ROUNDS; round += 1) {
    for (const [name, question] of Object.entries(await questionsOf(client, chat))) {
      const cpuBefore = familyCpuMs(postgresPid);
      const begin = performance.now();
      const excerpts = await findExcerpts(db, chat.tenantId, chat.chatId, question, {
        maxBytes: 16_000,
        maxResults: 8,
        timeoutMs: 10_000,
      });
      const ms = performance.now() - begin;
      if (round < 0) continue;
      if (name === "one_reference" && excerpts[0]?.text.includes(question) === true) found += 1;
      all.push(ms);
      cpu += familyCpuMs(postgresPid) - cpuBefore;
      samples.set(name, [...(samples.get(name) ?? []), ms]);
    }
  }
  return {
    find_ms: rounded(summarise(all)),
    mean_postgres_cpu_ms: digits(cpu / all.length, 1),
    by_question_ms: Object.fromEntries(
      [...samples].map(([name, list]) => {
        const { median, p95, p99, max } = rounded(summarise(list));
        return [name, { median, p95, p99, max }];
      }),
    ),
    references_found: `${found} of ${ROUNDS}`,
  };
};

const measureRetrieval = (): Promise<object> =>
  withDatabase(async (database) => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    const db = new Db({
      url: database.url,
      maxConnections: 10,
      acquireTimeoutMs: 10_000,
      statementTimeoutMs: 15_000,
      lockTimeoutMs: 5_000,
      idleInTransactionTimeoutMs: 30_000,
    });
    try {
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(database.pid));
      const chat = { tenantId: asTenantId(randomUUID()), chatId: randomUUID() };
      const data = await fill(client, chat);
      const finding = await measureFinding(db, client, chat, database.pid);
      return { data, ...finding, machine: machine() };
    } finally {
      await db.close();
      await client.end();
    }
  });

/** Finding excerpts among 10,000 chunks of 50 documents, and what an extraction does to running streams. */
export const run = async (): Promise<object> => ({
  ...(await measureRetrieval()),
  deltas: await measureDeltas(),
});
