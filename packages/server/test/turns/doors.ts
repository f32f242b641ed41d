import type { Tree } from "../../src/config/tree.ts";
import { type ModelPolicyPlugin, PolicyPluginError } from "../../src/policy/plugin.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";

/** What a deployment refuses by its configuration. */
export interface Door {
  unlicensed: boolean;
  policyAway: boolean;
  poor: boolean;
  webOff: boolean;
  imagesOff: boolean;
}

const away = (): Promise<never> => Promise.reject(new PolicyPluginError("internal", "away"));
const noPolicy: ModelPolicyPlugin = {
  getCurrentPolicyVersion: away,
  getPolicySnapshot: away,
  getUserLimits: away,
  publishUsage: async () => {},
};

/**
 * `m{short}{blind}{narrow}`: reads little text (150 tokens), no images, has hardly any room for context
 * beside its answer (104 tokens).
 */
const models: Tree[] = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => {
  const digits = bits.toString(2).padStart(3, "0");
  const [short, blind, narrow] = [...digits].map((digit) => digit === "1");
  return modelEntry(`m${digits}`, {
    preference: { is_default: bits === 0, sort_order: bits },
    max_input_tokens: short ? 150 : 100_000,
    context_window: narrow ? 4_300 : 128_000,
    ...(blind ? {} : { multimodal_capabilities: ["VISION_INPUT"] }),
  });
});

const tokens = [callers.ann, callers.amy, callers.bob].flatMap(({ token, tenantId, userId }) => {
  const subject = { tenant_id: tenantId, user_id: userId };
  return [
    { token, ...subject },
    { token: `${token}-reads`, ...subject, scopes: ["ai:mini_chat:read"] },
  ];
});

const configOf = (door: Door): Tree => ({
  // Nobody delivers: what a refusal left on the outbox would stay there to be seen.
  role: "api",
  database: { max_connections: 3 },
  auth: { tokens },
  ...(door.unlicensed ? { license: { tenants: ["cccccccc-0000-4000-8000-000000000003"] } } : {}),
  plugins: {
    model_policy: {
      static: {
        model_catalog: models,
        kill_switches: { disable_web_search: door.webOff, disable_images: door.imagesOff },
        ...(door.poor
          ? { default_standard_limits: { limit_daily_credits_micro: 5, limit_monthly_credits_micro: 5 } }
          : {}),
      },
    },
  },
});

/** Applications on one database and one provider that differ in what they refuse; each is started once. */
export const newDoor = async (): Promise<{
  ground: TestApp;
  doorOf: (door: Door) => Promise<TestApp>;
  close: () => Promise<void>;
}> => {
  const open: Door = { unlicensed: false, policyAway: false, poor: false, webOff: false, imagesOff: false };
  const ground = await startTestApp({ config: configOf(open) });
  const doors = new Map<string, Promise<TestApp>>([[JSON.stringify(open), Promise.resolve(ground)]]);
  const doorOf = (door: Door): Promise<TestApp> => {
    const key = JSON.stringify(door);
    const known = doors.get(key);
    if (known !== undefined) return known;
    const started = startTestApp({
      config: configOf(door),
      database: ground.database,
      simulator: ground.simulator,
      ...(door.policyAway ? { overrides: { policyPlugin: noPolicy } } : {}),
    });
    doors.set(key, started);
    return started;
  };
  return {
    ground,
    doorOf,
    close: async () => {
      const apps = (await Promise.all(doors.values())).filter((app) => app !== ground);
      for (const app of apps) await app.close();
      await ground.close();
    },
  };
};
