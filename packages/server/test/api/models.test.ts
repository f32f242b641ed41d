import { afterAll, describe, expect, test } from "vitest";
import { modelEntry, premiumEntry } from "../support/config.ts";
import { startApiApp } from "./support.ts";

// The rules themselves are in test/policy/routes.test.ts; here they are seen through the whole application.
const oddId = "vendor/odd model 100%25:ü";
const app = await startApiApp({
  config: {
    role: "api",
    plugins: {
      model_policy: {
        static: {
          kill_switches: { disable_premium_tier: true, force_standard_tier: true },
          model_catalog: [
            premiumEntry(oddId, {
              display_name: "Odd",
              description: "For tests.",
              multiplier_display: "3x",
              multimodal_capabilities: ["VISION_INPUT", "RAG"],
              system_prompt: "PLANTED-PROMPT",
              preference: { is_default: true, sort_order: 9 },
            }),
            modelEntry("off", { enabled: false }),
            modelEntry("plain"),
          ],
        },
      },
    },
  },
});
afterAll(() => app.close());

const odd = {
  model_id: oddId,
  display_name: "Odd",
  description: "For tests.",
  multiplier_display: "3x",
  tier: "premium",
  multimodal_capabilities: ["VISION_INPUT", "RAG"],
  context_window: 128_000,
};
const plain = {
  model_id: "plain",
  display_name: "plain",
  multiplier_display: "",
  tier: "standard",
  multimodal_capabilities: [],
  context_window: 128_000,
};

describe("models", () => {
  test("are the enabled ones in catalog order, whatever the kill switches, without query keys", async () => {
    for (const query of ["", "?limit=1&$filter=x&cursor=y&$select=model_id", "?limit=1&limit=2"]) {
      expect((await app.call("GET", `/models${query}`)).body).toEqual({ items: [odd, plain] });
    }
  });

  test("show nothing of provider, price or prompt", async () => {
    const response = await fetch(`${app.base}/models`, { headers: { authorization: "Bearer token-ann" } });
    expect(await response.text()).not.toMatch(
      /provider|credit|micro|PLANTED|output_tokens|version|preference|general/,
    );
  });

  test("are read by an id that is decoded once", async () => {
    const once = encodeURIComponent(oddId);
    expect((await app.call("GET", `/models/${once}`)).body).toEqual(odd);
    for (const path of [encodeURIComponent(once), decodeURIComponent(once).replaceAll(/[/ ü%]/g, "x")]) {
      expect((await app.call("GET", `/models/${path}`)).body.code).toBe("model_not_found");
    }
  });

  test.each(["off", "unknown", "PLAIN", "plain%20", "provider-plain", "__proto__", "%00", "x".repeat(5_000)])(
    "are not found by '%s'",
    async (id) => {
      const { status, body } = await app.call("GET", `/models/${id}`);
      expect(`${status} ${body.code} ${body.title}`).toBe("404 model_not_found model_not_found");
    },
  );
});
