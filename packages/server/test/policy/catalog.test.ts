import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLimits, parseSnapshot } from "../../src/policy/catalog.ts";
import { snapshotDocument } from "../../src/policy/document.ts";
import { asDefault, modelOf, parse, providerIds, type RawEntry, rawEntry, snapshotOf } from "./support.ts";

const keysOf = (result: ReturnType<typeof parse>): string[] =>
  "problems" in result ? result.problems.map(({ key }) => key) : [];

const general = (change: RawEntry): RawEntry => ({
  general_config: { max_file_size_mb: 25, api_params: {}, tool_support: {}, ...change },
});

describe("an entry that breaks a rule invalidates the snapshot", () => {
  test.each<[string, RawEntry, string]>([
    ["no id", { id: undefined }, "id"],
    ["an empty id", { id: "" }, "id"],
    ["an id of 1025 characters", { id: "x".repeat(1_025) }, "id"],
    ["an id with U+0000", { id: "a\0" }, "id"],
    ["an alias of the wrong type", { id: undefined, model_id: 5 }, "model_id"],
    ["an empty provider_model_id", { provider_model_id: "" }, "provider_model_id"],
    ["an empty provider_id", { provider_id: "" }, "provider_id"],
    ["an enabled model of an unknown provider", { provider_id: "nobody" }, "provider_id"],
    ["no provider_display_name", { provider_display_name: undefined }, "provider_display_name"],
    ["an empty display_name", { display_name: "" }, "display_name"],
    ["a description that is no text", { description: 1 }, "description"],
    ["tier PREMIUM", { tier: "PREMIUM" }, "tier"],
    ["tier STANDARD", { tier: "STANDARD" }, "tier"],
    ["no tier", { tier: undefined }, "tier"],
    ["enabled as text", { enabled: "true" }, "enabled"],
    ["the alias of enabled as text", { enabled: undefined, global_enabled: "yes" }, "global_enabled"],
    ["capabilities that are no texts", { multimodal_capabilities: [1] }, "multimodal_capabilities[0]"],
    ["context_window 0", { context_window: 0 }, "context_window"],
    ["context_window 10 000 001", { context_window: 10_000_001 }, "context_window"],
    ["no max_input_tokens", { max_input_tokens: undefined }, "max_input_tokens"],
    ["a fraction of a token", { max_output_tokens: 1.5 }, "max_output_tokens"],
    ["multiplier 0", { input_tokens_credit_multiplier_micro: 0 }, "input_tokens_credit_multiplier_micro"],
    [
      "multiplier 10 000 000 001",
      { output_tokens_credit_multiplier_micro: 10_000_000_001 },
      "output_tokens_credit_multiplier_micro",
    ],
    [
      "0 bytes per token",
      { estimation_budgets: { bytes_per_token_conservative: 0 } },
      "estimation_budgets.bytes_per_token_conservative",
    ],
    [
      "generation floor 0",
      { estimation_budgets: { minimal_generation_floor: 0 } },
      "estimation_budgets.minimal_generation_floor",
    ],
    ["no max_num_results", { max_num_results: undefined }, "max_num_results"],
    ["an unknown search size", { web_search_context_size: "huge" }, "web_search_context_size"],
    ["max_tool_calls 0", { max_tool_calls: 0 }, "max_tool_calls"],
    ["a default that is no boolean", { preference: { is_default: 1 } }, "preference.is_default"],
    ["a fractional order", { preference: { sort_order: 0.5 } }, "preference.sort_order"],
    ["no general_config", { general_config: undefined }, "general_config"],
    ["no file size", general({ max_file_size_mb: undefined }), "general_config.max_file_size_mb"],
    ["no api_params", general({ api_params: undefined }), "general_config.api_params"],
    ["no tool_support", general({ tool_support: undefined }), "general_config.tool_support"],
    [
      "a temperature as text",
      general({ api_params: { temperature: "hot" } }),
      "general_config.api_params.temperature",
    ],
    [
      "an extra_body no database can store",
      general({ api_params: { extra_body: { a: ["\0"] } } }),
      "general_config.api_params.extra_body",
    ],
    ["a date that is none", general({ available_from: "soon" }), "general_config.available_from"],
    [
      "a feature that is no boolean",
      general({ features: { streaming: 1 } }),
      "general_config.features.streaming",
    ],
  ])("%s", (_name, change, member) => {
    expect(keysOf(parse([rawEntry({ id: "fine" }), rawEntry(change)]))).toEqual([
      `model_catalog[1].${member}`,
    ]);
  });

  test("an entry that is no object", () => {
    expect(keysOf(parse([rawEntry(), "model"]))).toEqual(["model_catalog[1]"]);
  });
});

describe("rules between entries", () => {
  test("ids are unique, also those of disabled entries", () => {
    expect(keysOf(parse([rawEntry(), rawEntry({ enabled: false })]))).toEqual(["model_catalog[1].id"]);
  });

  test("two enabled defaults in a tier are one too many", () => {
    expect(keysOf(parse([rawEntry(asDefault), rawEntry({ id: "t", ...asDefault })]))).toEqual([
      "model_catalog[1].preference.is_default",
    ]);
  });

  test("one default per tier, and disabled ones do not count", () => {
    const catalog = [
      rawEntry({ id: "a", ...asDefault }),
      rawEntry({ id: "b", ...asDefault, enabled: false }),
      rawEntry({ id: "c", ...asDefault, tier: "premium" }),
    ];
    expect(parse(catalog)).toHaveProperty("snapshot");
  });

  test("a disabled entry may name an unknown provider", () => {
    expect(parse([rawEntry({ provider_id: "nobody", enabled: false })])).toHaveProperty("snapshot");
  });

  test("all problems are told at once", () => {
    const catalog = [rawEntry({ tier: "PREMIUM", max_tool_calls: 0 }), rawEntry({ provider_id: "nobody" })];
    expect(keysOf(parse(catalog, {}, { disable_images: 1 })).sort()).toEqual([
      "kill_switches.disable_images",
      "model_catalog[0].max_tool_calls",
      "model_catalog[0].tier",
      "model_catalog[1].provider_id",
    ]);
  });

  test.each([[undefined], [null], [{}], ["[]"]])("a catalog that is %j is no list", (catalog) => {
    expect(keysOf(parse(catalog))).toEqual(["model_catalog"]);
  });

  test.each([[0n], [-1n], [2n ** 53n]])("version %s is out of range", (version) => {
    const input = { model_catalog: [], kill_switches: {} };
    expect(keysOf(parseSnapshot(version, input, { providerIds, httpDefaults: false }))).toEqual([
      "policy_version",
    ]);
  });
});

describe("a valid entry", () => {
  test("takes the documented defaults", () => {
    const { enabled: _enabled, ...entry } = rawEntry();
    const [model] = snapshotOf([entry]).modelCatalog;
    expect(model).toMatchObject({
      enabled: false,
      description: "",
      icon: "",
      multimodalCapabilities: [],
      multiplierDisplay: "",
      webSearchContextSize: "low",
      maxToolCalls: 2,
      systemPrompt: "",
      threadSummaryPrompt: "",
      estimationBudgets: {
        bytesPerTokenConservative: 4,
        fixedOverheadTokens: 100,
        safetyMarginPct: 10,
        imageTokenBudget: 1_000,
        toolSurchargeTokens: 500,
        webSearchSurchargeTokens: 500,
        codeInterpreterSurchargeTokens: 1_000,
        minimalGenerationFloor: 50,
      },
    });
    expect(model).not.toHaveProperty("preference");
  });

  test.each([
    ["standard", "standard"],
    ["Standard", "standard"],
    ["premium", "premium"],
    ["Premium", "premium"],
  ])("spells its tier %s", (tier, expected) => {
    expect(modelOf({ tier }).tier).toBe(expected);
  });

  test("may go by the aliases; unknown members and capabilities do no harm", () => {
    const model = modelOf({
      id: undefined,
      model_id: "aliased",
      enabled: undefined,
      global_enabled: true,
      future: { x: 1 },
      multimodal_capabilities: ["VISION_INPUT", "TELEPATHY"],
    });
    expect(model).toMatchObject({
      id: "aliased",
      enabled: true,
      multimodalCapabilities: ["VISION_INPUT", "TELEPATHY"],
    });
    expect(model).not.toHaveProperty("future");
  });

  test("counts the characters of its id, not their code units", () => {
    expect(modelOf({ id: "😀".repeat(1_024) }).id).toHaveLength(2_048);
  });

  test("has multipliers as bigint and forwards only the parameters it names", () => {
    const model = modelOf(
      general({
        api_params: { temperature: 0, stop: [], extra_body: { seed: 1 }, reasoning_effort: null },
        tool_support: { file_search: true },
      }),
    );
    expect(model.inputMultiplierMicro).toBe(1_000_000n);
    expect(model.outputMultiplierMicro).toBe(3_000_000n);
    expect(model.generalConfig.apiParams).toEqual({ temperature: 0, extra_body: { seed: 1 } });
    expect(model.generalConfig.toolSupport).toEqual({
      fileSearch: true,
      webSearch: false,
      codeInterpreter: false,
      imageGeneration: false,
      mcp: false,
    });
  });

  test("takes a top-level is_default only from the HTTP contract", () => {
    const catalog = [rawEntry({ is_default: true })];
    expect(snapshotOf(catalog).modelCatalog[0]?.preference).toBeUndefined();
    const http = parse(catalog, { httpDefaults: true });
    expect("snapshot" in http && http.snapshot.modelCatalog[0]?.preference).toEqual({
      isDefault: true,
      sortOrder: 0,
    });
  });
});

test("an entry of the HTTP contract may leave out what has a default", () => {
  const {
    max_input_tokens: _input,
    max_num_results: _results,
    general_config: _config,
    ...entry
  } = rawEntry({ context_window: 4_096 });
  const parsed = parse([entry], { httpDefaults: true });
  expect("snapshot" in parsed && parsed.snapshot.modelCatalog[0]).toMatchObject({
    maxInputTokens: 4_096,
    maxNumResults: 5,
    generalConfig: {
      maxFileSizeMb: 25,
      apiParams: { temperature: 0.7, top_p: 1, frequency_penalty: 0, presence_penalty: 0 },
      toolSupport: { webSearch: false, fileSearch: false, codeInterpreter: false },
    },
  });
  expect(keysOf(parse([{ ...entry, general_config: 5 }], { httpDefaults: true }))).toEqual([
    "model_catalog[0].general_config",
  ]);
});

test("kill switches are off unless set; unknown ones are ignored", () => {
  const off = snapshotOf([], 7n, undefined).killSwitches;
  expect(Object.values(off)).toEqual([false, false, false, false, false, false]);
  const some = snapshotOf([], 7n, { disable_images: true, force_standard_tier: true, disable_everything: 1 });
  expect(some.killSwitches).toEqual({ ...off, disableImages: true, forceStandardTier: true });
});

test("an empty catalog is valid", () => {
  expect(snapshotOf([]).modelCatalog).toEqual([]);
});

test("problems name keys, never values", () => {
  const told = JSON.stringify(parse([rawEntry({ system_prompt: "secret prompt\0", tier: "secret tier" })]));
  expect(told).toContain("system_prompt");
  expect(told).not.toContain("secret");
});

test("a snapshot read back from its document is the same", () => {
  const int = (max: number) => fc.integer({ min: 1, max });
  const entry = fc.record({
    provider_id: fc.constantFrom(...providerIds),
    tier: fc.constantFrom("standard", "premium"),
    enabled: fc.boolean(),
    description: fc.string(),
    system_prompt: fc.string({ unit: "grapheme" }),
    context_window: int(10_000_000),
    max_output_tokens: int(10_000_000),
    input_tokens_credit_multiplier_micro: int(1_000_000_000),
    multimodal_capabilities: fc.array(fc.constantFrom("VISION_INPUT", "RAG")),
    estimation_budgets: fc.record({ fixed_overhead_tokens: fc.nat(), image_token_budget: fc.nat() }),
    general_config: fc.record({
      max_file_size_mb: int(1_000),
      api_params: fc.record(
        { temperature: fc.double({ noNaN: true, min: 0, max: 2 }), stop: fc.array(fc.string()) },
        { requiredKeys: [] },
      ),
      tool_support: fc.record({ web_search: fc.boolean(), mcp: fc.boolean() }),
    }),
  });
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 4 }), fc.boolean(), (entries, disableImages) => {
      const catalog = entries.map((one, at) => rawEntry({ ...one, id: `m${at}` }));
      const parsed = parse(catalog, {}, { disable_images: disableImages });
      // Strings with U+0000 are invalid, which is another test's matter.
      fc.pre("snapshot" in parsed);
      if (!("snapshot" in parsed)) return;
      const again = parseSnapshot(7n, JSON.parse(snapshotDocument(parsed.snapshot)), {
        providerIds,
        httpDefaults: false,
      });
      expect(again).toEqual(parsed);
    }),
  );
});

describe("user limits", () => {
  const tier = (daily: unknown, monthly: unknown) => ({
    limit_daily_credits_micro: daily,
    limit_monthly_credits_micro: monthly,
  });

  test("are bigint; other members and a premium above standard do no harm", () => {
    const input = {
      standard: { ...tier(0, Number.MAX_SAFE_INTEGER), limit_weekly: -1 },
      premium: tier(1, 2),
      x: 1,
    };
    expect(parseLimits(input)).toEqual({
      limits: {
        standard: { daily: 0n, monthly: BigInt(Number.MAX_SAFE_INTEGER) },
        premium: { daily: 1n, monthly: 2n },
      },
    });
  });

  test.each<[string, unknown, string]>([
    ["negative", { standard: tier(-1, 1), premium: tier(1, 1) }, "standard.limit_daily_credits_micro"],
    ["fractional", { standard: tier(1, 1.5), premium: tier(1, 1) }, "standard.limit_monthly_credits_micro"],
    [
      "above 2^53 - 1",
      { standard: tier(1, 1), premium: tier(2 ** 53, 1) },
      "premium.limit_daily_credits_micro",
    ],
    ["text", { standard: tier(1, 1), premium: tier("1", 1) }, "premium.limit_daily_credits_micro"],
    [
      "missing",
      { standard: tier(1, 1), premium: { limit_daily_credits_micro: 1 } },
      "premium.limit_monthly_credits_micro",
    ],
    ["without a tier", { standard: tier(1, 1) }, "premium"],
    ["nothing at all", null, ""],
  ])("are invalid when %s", (_name, input, key) => {
    const parsed = parseLimits(input);
    expect("problems" in parsed && parsed.problems.map((problem) => problem.key)).toEqual([key]);
  });
});
