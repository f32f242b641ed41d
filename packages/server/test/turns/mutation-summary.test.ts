import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { mutate, ops } from "./mutation-support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      role: "api",
      plugins: {
        model_policy: { static: { default_standard_limits: { limit_daily_credits_micro: 1_000_000_000 } } },
      },
    },
  });
});
afterAll(() => app.close());

const question = "What is due this week?";

describe.each(ops)("%s and the thread summary (turns.md §15.3)", (op) => {
  /** Four answered messages of which a summary covers the oldest so many. */
  const summarized = async (covered: number) => {
    const chatId = await app.createChat();
    for (const content of ["one", "two", "three"]) await app.ask(chatId, content);
    const { requestId } = await app.ask(chatId, question);
    const { rows } = await app.db.query<{ id: string; at: string }>(
      "select id, created_at as at from messages where chat_id = $1 order by created_at, id",
      [chatId],
    );
    const frontier = rows[covered - 1];
    await app.db.query(
      `insert into thread_summaries (
         id, tenant_id, chat_id, summary_text, summarized_up_to_created_at, summarized_up_to_message_id
       ) values (gen_random_uuid(), $1, $2, 'all of it', $3, $4)`,
      [callers.ann.tenantId, chatId, frontier?.at, frontier?.id],
    );
    await app.db.query("update messages set is_compressed = true where id = any ($1)", [
      rows.slice(0, covered).map(({ id }) => id),
    ]);
    return { chatId, requestId };
  };

  const summaryOf = async (chatId: string) => ({
    summaries: (await app.db.query("select from thread_summaries where chat_id = $1", [chatId])).rowCount,
    compressed: (
      await app.db.query("select from messages where chat_id = $1 and is_compressed and deleted_at is null", [
        chatId,
      ])
    ).rowCount,
  });

  test.each([7, 8])(
    "a summary of %i messages holds text of the turn: it goes, the rest is context again",
    async (covered) => {
      const turn = await summarized(covered);
      const other = await summarized(covered);
      await (await mutate(app, op, turn)).rest();
      expect(await summaryOf(turn.chatId)).toEqual({ summaries: 0, compressed: 0 });
      // Another chat's is untouched.
      expect(await summaryOf(other.chatId)).toEqual({ summaries: 1, compressed: covered });
      if (op === "delete") await app.ask(turn.chatId, "PING");
      const sent = JSON.stringify(app.simulator.requests().at(-1)?.body);
      for (const content of ["one", "two", "three"]) expect(sent).toContain(content);
      expect(sent.includes(question)).toBe(op === "retry");
      expect(sent).not.toContain("all of it");
    },
  );

  test("a summary of what came before stays", async () => {
    const turn = await summarized(6);
    await (await mutate(app, op, turn)).rest();
    expect(await summaryOf(turn.chatId)).toEqual({ summaries: 1, compressed: 6 });
  });
});
