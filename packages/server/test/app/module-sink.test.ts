import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadModuleSink } from "../../src/app/module-sink.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "module-sink-"));
});
afterAll(() => rm(directory, { recursive: true }));

let files = 0;
const load = async (source: string) => {
  files += 1;
  const path = join(directory, `sink-${files}.mjs`);
  await writeFile(path, source);
  return loadModuleSink("plugins.usage.module", path, { greeting: "hello" });
};

describe("a sink of a module", () => {
  it("gets its options and takes deliveries one by one by default", async () => {
    const sink = await load(
      "export default (options) => ({ publish: async (all) => { all.push(options.greeting); } });",
    );
    const deliveries: never[] = [];
    await sink.publish(deliveries, new AbortController().signal);
    expect(deliveries).toEqual(["hello"]);
    expect(sink.grouping).toBe("single");
    await sink.close();
  });

  it("may be made asynchronously, take batches and be closed", async () => {
    const sink = await load(`
      export default async (options) => ({
        grouping: "batch",
        publish: async () => {},
        close: async () => { throw new Error("closed"); },
      });`);
    expect(sink.grouping).toBe("batch");
    await expect(sink.close()).rejects.toThrow("closed");
  });

  it.each([
    ["is not there", null, /plugins\.usage\.module: .* cannot be loaded/],
    ["does not parse", "export default (", /cannot be loaded/],
    ["throws while it is loaded", "throw new Error('boom');", /cannot be loaded: boom/],
    ["exports nothing", "", /no function as its default export/],
    ["exports no function", "export default {};", /no function as its default export/],
    ["throws", "export default () => { throw new Error('boom'); };", /threw while making the sink: boom/],
    ["makes nothing", "export default () => {};", /no object with a publish function/],
    [
      "has a grouping nobody knows",
      "export default () => ({ publish() {}, grouping: 'x' });",
      /a grouping other/,
    ],
  ])("that %s is told apart, by the configuration key", async (_name, source, message) => {
    const loading =
      source === null
        ? loadModuleSink("plugins.usage.module", join(directory, "none.mjs"), {})
        : load(source);
    await expect(loading).rejects.toMatchObject({
      name: "PluginError",
      message: expect.stringMatching(message),
    });
  });
});
