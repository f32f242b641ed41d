import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { calm } from "../attachments/support.ts";
import { callApi, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import {
  askAbout,
  lastRequest,
  type ModelCall,
  providerIdOf,
  startFilesApp,
  uploaded,
} from "./files-support.ts";
import { mutate, successorOf } from "./mutation-support.ts";
import { attach, eventsOf, everything } from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startFilesApp();
});
afterAll(() => app.close());
beforeEach(async () => {
  chatId = await app.createChat();
});
afterEach(() => {
  app.simulator.clearScenarios();
  calm(app);
});

/** The parts of the current message as the provider got it. */
const partsSent = (from: TestApp = app): ModelCall["input"][number]["content"] =>
  lastRequest(from).input.at(-1)?.content ?? [];
const imagesSent = (from: TestApp = app): (string | undefined)[] =>
  partsSent(from).flatMap((part) => (part.type === "input_image" ? [part.file_id] : []));

const images = (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () => uploaded(app, chatId, "image")));

const usedToday = async (userId: string = callers.ann.userId): Promise<number> =>
  (
    await app.db.query<{ images: number }>(
      `select image_inputs as images from quota_usage
       where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
      [userId],
    )
  ).rows[0]?.images ?? 0;

describe("images (context.md §5)", () => {
  test("go along in the order named, behind the text, and with no other message", async () => {
    const [first = "", second = ""] = await images(2);
    const ids = [await providerIdOf(app, second), await providerIdOf(app, first)];
    const { requestId } = await askAbout(app, chatId, "what is it?", {
      body: { attachment_ids: [second, first] },
    });
    expect(partsSent()).toEqual([
      { type: "input_text", text: "what is it?" },
      ...ids.map((file_id) => ({ type: "input_image", file_id })),
    ]);
    expect((await eventsOf(app, requestId)).audit["attachments"]).toEqual(
      expect.arrayContaining([
        { attachment_id: first, attachment_kind: "image", image_used_in_turn: true },
        { attachment_id: second, attachment_kind: "image", image_used_in_turn: true },
      ]),
    );
    await askAbout(app, chatId, "and now?");
    expect(JSON.stringify(lastRequest(app))).not.toContain("input_image");
    await askAbout(app, chatId, "once more", { body: { attachment_ids: [first] } });
    expect(imagesSent()).toEqual([ids[1]]);
  });

  test("cost their budget in the reserve, and their place in the day's quota, which is never given back", async () => {
    const [image = ""] = await images(1);
    const before = await usedToday();
    const plain = await askAbout(app, await app.createChat(), "what is it?");
    app.simulator.enqueue({ error: { code: "server_error", message: "down" } });
    const shown = await askAbout(app, chatId, "what is it?", { body: { attachment_ids: [image] } });
    expect(shown.events.at(-1)?.event).toBe("error");
    const tokens = async (id: string): Promise<bigint> =>
      (
        await app.db.query<{ tokens: bigint }>(
          "select reserve_tokens as tokens from chat_turns where request_id = $1",
          [id],
        )
      ).rows[0]?.tokens ?? 0n;
    expect((await tokens(shown.requestId)) - (await tokens(plain.requestId))).toBe(1_000n);
    expect(await usedToday()).toBe(before + 1);
  });

  test("are sent again by a retry and by an edit, and count again (turns.md §15.2)", async () => {
    const named = await images(2);
    const ids = await Promise.all(named.map((id) => providerIdOf(app, id)));
    const before = await usedToday();
    const { requestId } = await askAbout(app, chatId, "what is it?", { body: { attachment_ids: named } });
    const retried = await successorOf(await mutate(app, "retry", { chatId, requestId }));
    expect(imagesSent()).toEqual(ids);
    await successorOf(await mutate(app, "edit", { chatId, requestId: retried }));
    expect(imagesSent()).toEqual(ids);
    expect(partsSent()[0]).toEqual({ type: "input_text", text: "And next week?" });
    expect(await usedToday()).toBe(before + 6);
    const { body } = await app.call("GET", `/chats/${chatId}/messages`);
    expect(body.items[0].attachments.map((one: { attachment_id: string }) => one.attachment_id)).toEqual(
      named,
    );
  });

  test("beside a document: both are linked, the document goes no other way than before", async () => {
    const [image = ""] = await images(1);
    const document = await uploaded(app, chatId, "document");
    await askAbout(app, chatId, "what is it?", { body: { attachment_ids: [document, image] } });
    expect(imagesSent()).toEqual([await providerIdOf(app, image)]);
    expect(lastRequest(app).tools).toHaveLength(1);
  });
});

describe("a message with images is refused, and nothing is written", () => {
  const refused = async (ids: readonly string[], from: TestApp = app, caller = callers.ann) => {
    const before = await everything(from);
    const { status, body } = await callApi(`${from.base}/chats/${chatId}/messages:stream`, "POST", {
      caller,
      body: { content: "see", attachment_ids: ids },
    });
    expect(await everything(from)).toEqual(before);
    return `${status} ${body.code}${body.quota_scope === undefined ? "" : ` ${body.quota_scope}`}`;
  };

  test("with more than four of them, also when one became ready since", async () => {
    const ids = await Promise.all(Array.from({ length: 5 }, () => attach(app, chatId)));
    expect(await refused(ids)).toBe("400 too_many_images");
    // Documents do not count.
    const others = await Promise.all([1, 2].map(() => uploaded(app, chatId, "document")));
    await askAbout(app, chatId, "see", { body: { attachment_ids: [...ids.slice(0, 4), ...others] } });
  });

  test.each([
    ["failed", "update attachments set status = 'failed', error_code = 'upload_failed' where id = $1"],
    ["not ready yet", "update attachments set status = 'uploaded' where id = $1"],
    ["deleted", "update attachments set deleted_at = now(), cleanup_status = 'pending' where id = $1"],
    [
      "of another user",
      "update attachments set uploaded_by_user_id = 'a0000000-0000-4000-8000-00000000000b' where id = $1",
    ],
  ])("when one is %s", async (_what, change) => {
    const [good = "", bad = ""] = await images(2);
    await app.db.query(change, [bad]);
    expect(await refused([good, bad])).toBe("400 invalid_attachment");
  });

  test("when one is named twice, or is of another chat", async () => {
    const [image = ""] = await images(1);
    expect(await refused([image, image])).toBe("400 invalid_attachment");
    chatId = await app.createChat();
    expect(await refused([image])).toBe("400 invalid_attachment");
  });

  test("when it would exceed the day's images, as a whole", async () => {
    const [first = "", second = ""] = await images(2);
    const set = (count: number) =>
      app.db.query(
        `update quota_usage set image_inputs = $2 where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
        [callers.ann.userId, count],
      );
    const before = await usedToday();
    await set(49);
    expect(await refused([first, second])).toBe("429 quota_exceeded image_inputs");
    await askAbout(app, chatId, "one fits", { body: { attachment_ids: [first] } });
    await set(before);
  });

  describe("by the model that would answer, after any downgrade", () => {
    const catalog = (more: Tree): Tree => ({ plugins: { model_policy: { static: more } } });
    const premium = premiumEntry("premium", {
      multimodal_capabilities: ["VISION_INPUT"],
      preference: { is_default: true, sort_order: 0 },
    });
    const seeing = { multimodal_capabilities: ["VISION_INPUT"] };
    const downgraded = { kill_switches: { disable_premium_tier: true } };

    test.each<[string, Tree, string]>([
      ["images are off", { kill_switches: { disable_images: true } }, "400 images_disabled"],
      [
        "it cannot see",
        { model_catalog: [premium, modelEntry("blind")], ...downgraded },
        "415 unsupported_media",
      ],
      [
        "its provider has another storage",
        { model_catalog: [premium, modelEntry("far", { ...seeing, provider_id: "other" })], ...downgraded },
        "415 unsupported_media",
      ],
    ])("%s", async (_what, policy, refusal) => {
      chatId = await app.createChat(callers.ann, { model: "premium" });
      const [image = ""] = await images(1);
      const other = await startFilesApp({
        config: catalog(policy),
        database: app.database,
        simulator: app.simulator,
      });
      try {
        expect(await refused([image], other)).toBe(refusal);
        // Nothing is dropped: without the image the same message is answered.
        await askAbout(other, chatId, "see");
      } finally {
        await other.close();
      }
    });
  });
});
