import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import type { TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import { type Door, newDoor } from "./doors.ts";
import { attach } from "./support.ts";

/** Chats with turns someone may want to change, in deployments that refuse it for their own reasons. */

export interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

export interface Asked {
  readonly content?: string;
  readonly model?: string;
  readonly images?: number;
  readonly webSearch?: boolean;
  readonly caller?: Caller;
}

export interface World {
  readonly ground: TestApp;
  /** The deployment that differs from `ground` in this. */
  doorOf(door: Partial<Door>): Promise<TestApp>;
  /** A chat with one answered message. */
  asked(more?: Asked): Promise<Turn>;
  /** One more answered message in the chat; its request_id. */
  further(chatId: string): Promise<string>;
  /** A chat whose latest turn runs until the end of the tests. */
  running(): Promise<Turn & { readonly older: string }>;
  close(): Promise<void>;
}

const open: Door = { unlicensed: false, policyAway: false, poor: false, webOff: false, imagesOff: false };

export const newWorld = async (): Promise<World> => {
  const { ground, doorOf, close } = await newDoor();
  const ask = async (chatId: string, more: Asked, images: readonly string[]): Promise<string> => {
    const requestId = randomUUID();
    const { content = "hi", webSearch = false, caller = callers.ann } = more;
    const body = {
      content,
      request_id: requestId,
      web_search: { enabled: webSearch },
      attachment_ids: images,
    };
    const events = await (await ground.send(chatId, body, caller)).rest();
    expect(events.at(-1)?.event).toBe("done");
    return requestId;
  };
  const asked: World["asked"] = async (more = {}) => {
    const { model = "m000", images = 0, caller = callers.ann } = more;
    ground.simulator.clearScenarios();
    const chatId = await ground.createChat(caller, { model });
    const ids: string[] = [];
    for (let at = 0; at < images; at += 1) ids.push(await attach(ground, chatId, { owner: caller }));
    return { chatId, requestId: await ask(chatId, more, ids) };
  };
  return {
    ground,
    doorOf: (door) => doorOf({ ...open, ...door }),
    asked,
    further: (chatId) => ask(chatId, {}, []),
    running: async () => {
      const { chatId, requestId: older } = await asked();
      ground.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "end of the tests" }] });
      const requestId = randomUUID();
      await (await ground.send(chatId, { content: "running", request_id: requestId })).until("delta");
      return { chatId, requestId, older };
    },
    close: async () => {
      ground.simulator.open("end of the tests");
      await close();
    },
  };
};
