import { describe, expect, test } from "vitest";
import { offeredTools } from "../../src/policy/offered.ts";
import { defaultModel, findModel } from "../../src/policy/select.ts";
import { asDefault, modelOf, type RawEntry, rawEntry, snapshotOf } from "./support.ts";

describe("the default model of a new chat", () => {
  const s = (change: RawEntry = {}) => rawEntry({ id: "S", tier: "standard", ...change });
  const p = (change: RawEntry = {}) => rawEntry({ id: "P", tier: "premium", ...change });

  test.each<[string, readonly RawEntry[], string | undefined]>([
    ["the enabled default, before the first", [s(), p(asDefault)], "P"],
    ["the first enabled one where none is a default", [s(), p()], "S"],
    ["not a disabled default", [p({ ...asDefault, enabled: false }), s()], "S"],
    ["the first of two defaults in catalog order, whatever its tier", [s(asDefault), p(asDefault)], "S"],
    [
      "not by sort_order",
      [
        s({ preference: { is_default: true, sort_order: 9 } }),
        p({ preference: { is_default: true, sort_order: 1 } }),
      ],
      "S",
    ],
    ["none where all are disabled", [s({ enabled: false }), p({ enabled: false })], undefined],
    ["none in an empty catalog", [], undefined],
  ])("is %s", (_name, catalog, id) => {
    expect(defaultModel(snapshotOf(catalog))?.id).toBe(id);
  });
});

test("a model is found by its exact id, enabled or not", () => {
  const snapshot = snapshotOf([rawEntry({ id: "off", enabled: false })]);
  expect(findModel(snapshot, "off")?.enabled).toBe(false);
  expect(findModel(snapshot, "OFF")).toBeUndefined();
});

describe("tools offered to a candidate model", () => {
  const all = { web_search: true, file_search: true, code_interpreter: true };
  const none = { fileSearch: false, webSearch: false, codeInterpreter: false };
  const every = { fileSearch: true, webSearch: true, codeInterpreter: true };

  interface Case {
    readonly support?: object;
    readonly switches?: object;
    readonly web?: boolean;
    readonly files?: object;
  }

  const offer = ({ support = all, switches = {}, web = true, files = {} }: Case) =>
    offeredTools({
      model: modelOf({ general_config: { max_file_size_mb: 1, api_params: {}, tool_support: support } }),
      killSwitches: snapshotOf([], 7n, switches).killSwitches,
      webSearchRequested: web,
      files: { searchable: true, codeFiles: true, ...files },
    });

  test.each<[string, Case, object]>([
    ["all when everything holds", {}, every],
    ["none the model does not support", { support: {} }, none],
    [
      "no file search by switch",
      { switches: { disable_file_search: true } },
      { ...every, fileSearch: false },
    ],
    [
      "no code interpreter by switch",
      { switches: { disable_code_interpreter: true } },
      { ...every, codeInterpreter: false },
    ],
    ["no file search without documents", { files: { searchable: false } }, { ...every, fileSearch: false }],
    [
      "no code interpreter without files for it",
      { files: { codeFiles: false } },
      { ...every, codeInterpreter: false },
    ],
    ["no web search unless asked for", { web: false }, { ...every, webSearch: false }],
    [
      "web search only where the model supports it",
      { support: { ...all, web_search: false } },
      { ...every, webSearch: false },
    ],
  ])("%s", (_name, given, expected) => {
    expect(offer(given)).toEqual(expected);
  });
});
