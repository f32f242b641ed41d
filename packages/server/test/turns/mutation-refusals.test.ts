import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TestApp } from "../support/app.ts";
import { cases } from "./mutation-cases.ts";
import { mutate, ops, wholeDatabase } from "./mutation-support.ts";
import { newWorld, type World } from "./mutation-world.ts";
import { samples, whileLocked } from "./support.ts";

/** turns.md §15.1, §23.3: every refusal of a retry, an edit or a delete leaves every row as it was. */

let world: World;
beforeAll(async () => {
  world = await newWorld();
});
afterAll(() => world.close());

const results = async (app: TestApp): Promise<Map<string, number>> => samples(app, "turn_mutation_total");

describe("a refused mutation changes nothing, byte for byte", () => {
  test.each(cases)("$op: row $name", async ({ op, given, refusal, counted }) => {
    const { turn, door, ...options } = await given(world);
    const app = await world.doorOf(door ?? {});
    const [before, countedBefore] = [await wholeDatabase(world.ground.db), await results(app)];
    const calls = world.ground.simulator.requests().length;
    const problem = await (await mutate(app, op, turn, options)).problem();
    expect(problem).toMatchObject(refusal);
    expect("quota_scope" in problem).toBe(refusal.quota_scope !== undefined);
    expect(await wholeDatabase(world.ground.db)).toEqual(before);
    expect(world.ground.simulator.requests()).toHaveLength(calls);
    const after = await results(app);
    const grown = [...after].filter(([labels, value]) => value !== (countedBefore.get(labels) ?? 0));
    expect(grown.map(([labels]) => labels)).toEqual(
      counted === undefined ? [] : [`op="${op}",result="${counted}"`],
    );
  });

  test.each(ops)("%s: a wait for a lock of over 5 s is 503, and says when to come again", async (op) => {
    const turn = await world.asked();
    const before = await wholeDatabase(world.ground.db);
    const refused = await whileLocked(world.ground, "select from chats for update", () =>
      mutate(world.ground, op, turn),
    );
    expect(refused.headers["retry-after"]).toBe("5");
    expect(await refused.problem()).toMatchObject({ status: 503, code: "service_unavailable" });
    expect(await wholeDatabase(world.ground.db)).toEqual(before);
  });

  test.each(ops)("%s: a failure of ours at the last write is 500 and takes everything back", async (op) => {
    const turn = await world.asked();
    await world.ground.db.query(`
      create function explode() returns trigger language plpgsql as $$
      begin raise exception 'boom with secret-detail' using errcode = 'XX000'; end $$`);
    await world.ground.db.query(
      "create trigger explode before insert on outbox_message for each row execute function explode()",
    );
    const before = await wholeDatabase(world.ground.db);
    try {
      const problem = await (await mutate(world.ground, op, turn)).problem();
      expect(problem).toMatchObject({ status: 500, code: "internal_error", title: "Internal Error" });
      expect(JSON.stringify(problem)).not.toContain("secret-detail");
    } finally {
      await world.ground.db.query("drop function explode() cascade");
    }
    expect(await wholeDatabase(world.ground.db)).toEqual(before);
    // What was refused may come again, and now it succeeds.
    const stream = await mutate(world.ground, op, turn);
    expect(stream.status).toBe(op === "delete" ? 204 : 200);
    await stream.rest();
  });
});
