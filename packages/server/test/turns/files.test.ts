import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { calm } from "../attachments/support.ts";
import type { TestApp } from "../support/app.ts";
import { textOf } from "../support/stream.ts";
import {
  askAbout,
  citationsIn,
  lastRequest,
  providerIdOf,
  startFilesApp,
  toolsOf,
  uploaded,
} from "./files-support.ts";

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

describe("documents (context.md §8)", () => {
  test("are searched and cited by the ids of the API", async () => {
    const id = await uploaded(app, chatId, "document");
    const { events } = await askAbout(app, chatId, "How many items are due?");
    const tool = (phase: string, details: object) => ({
      event: "tool",
      data: { phase, name: "file_search", details },
    });
    expect(events.slice(1, 3)).toEqual([tool("start", {}), tool("done", { files_searched: 1 })]);
    expect(textOf(events)).toBe('Your document says: "Two items are due."');
    expect(citationsIn(events)).toEqual([
      { source: "file", attachment_id: id, title: "plan.txt", snippet: "Two items are due." },
    ]);
    expect(lastRequest(app)).toMatchObject({
      tools: [{ type: "file_search", vector_store_ids: [expect.any(String)], max_num_results: 5 }],
      metadata: { feature: "file_search" },
    });
  });
});
