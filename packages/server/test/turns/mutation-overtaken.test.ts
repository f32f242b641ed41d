import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { holdLock, releaseLocks } from "../crash/support.ts";
import type { OpenedStream } from "../support/stream.ts";
import { mutate, newQuestion, ops, successorOf } from "./mutation-support.ts";
import { newWorld, type Turn, type World } from "./mutation-world.ts";
import { someoneWaits } from "./support.ts";
import { same } from "./validation-rows.ts";

let world: World;
beforeAll(async () => {
  world = await newWorld();
});
afterEach(releaseLocks);
afterAll(() => world.close());

describe("what changes between the checks and the transaction of a mutation", () => {
  /** Starts the mutation, holds its transaction back at the chat, lets something happen, lets it go on. */
  const overtaken = async (
    turn: Turn,
    start: () => Promise<OpenedStream>,
    hold: string,
    meanwhile: () => Promise<unknown> = async () => {},
  ): Promise<OpenedStream> => {
    const release = await holdLock(world.ground.database.url, hold, [turn.chatId]);
    const asking = start();
    await someoneWaits(world.ground);
    await meanwhile();
    await release("commit");
    return asking;
  };
  const lockChat = "select from chats where id = $1 for update";

  test.each(ops)("%s: a turn that was changed is not the one that was seen", async (op) => {
    const turn = await world.asked();
    const { updated_at } = (await world.ground.call("GET", `/chats/${turn.chatId}/turns/${turn.requestId}`))
      .body;
    const query = `?if_turn_updated_at=${updated_at}`;
    const change = "update chat_turns set updated_at = now() where request_id = $1";
    const refused = await overtaken(
      turn,
      () => mutate(world.ground, op, turn, { query }),
      lockChat,
      () => world.ground.db.query(change, [turn.requestId]),
    );
    expect(await refused.problem()).toMatchObject(same(409, "not_latest_turn"));
  });

  test.each(ops)("%s: a chat that was deleted is not there", async (op) => {
    const turn = await world.asked();
    const remove = "update chats set deleted_at = now() where id = $1";
    const refused = await overtaken(turn, () => mutate(world.ground, op, turn), remove);
    expect(await refused.problem()).toMatchObject(same(404, "chat_not_found"));
  });

  test.each(["retry", "edit"] as const)(
    "%s: an attachment that was deleted is left out of links and fingerprint",
    async (op) => {
      const turn = await world.asked({ images: 2 });
      const linked = `
      select l.attachment_id as id
      from message_attachments l join messages m on m.id = l.message_id
      where m.request_id = $1
      order by l.position`;
      const { rows } = await world.ground.db.query<{ id: string }>(linked, [turn.requestId]);
      const [kept, gone] = rows.map(({ id }) => id);
      const stream = await overtaken(
        turn,
        () => mutate(world.ground, op, turn),
        lockChat,
        () => world.ground.db.query("update attachments set deleted_at = now() where id = $1", [gone]),
      );
      const requestId = await successorOf(stream);
      expect((await world.ground.db.query(linked, [requestId])).rows).toEqual([{ id: kept }]);
      const content = op === "edit" ? newQuestion : "hi";
      const again = { content, request_id: requestId, attachment_ids: [kept] };
      const replay = await (await world.ground.send(turn.chatId, again)).rest();
      expect(replay[0]?.data["is_new_turn"]).toBe(false);
    },
  );
});
