import { afterEach, describe, expect, test } from "vitest";
import { type Actor, asTenantId } from "../../src/auth/actor.ts";
import { type Authorizer, createAuthorizer } from "../../src/auth/authorize.ts";
import { authzSection } from "../../src/config/identity.ts";
import { Secret } from "../../src/config/secret.ts";
import { metricsSection, serverSection } from "../../src/config/server.ts";
import { AppError } from "../../src/errors.ts";
import { createHealth } from "../../src/http/health.ts";
import { createOpsServer, type OpsServer } from "../../src/http/ops-server.ts";
import { registerModelRoutes, registerPolicyNotify } from "../../src/policy/routes.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { bearer, actor as httpActor, testServer } from "../http/support.ts";
import { asDefault, limits, rawEntry, snapshotOf } from "./support.ts";

const catalog = [
  rawEntry({
    id: "vendor/model 100%25",
    tier: "Premium",
    display_name: "Best",
    description: "The best one.",
    multiplier_display: "3x",
    multimodal_capabilities: ["VISION_INPUT"],
    context_window: 200_000,
    system_prompt: "SECRET",
    ...asDefault,
  }),
  rawEntry({ id: "off", enabled: false }),
  rawEntry({ id: "s" }),
];

const allow = createAuthorizer(authzSection.parse({}));

const serve = (options: { authorizer?: Authorizer; switches?: object; available?: boolean } = {}) => {
  const asked: Actor[] = [];
  const resolve = async (actor: Actor) => {
    asked.push(actor);
    if (options.available === false) throw new AppError("service_unavailable");
    return { version: 7n, snapshot: snapshotOf(catalog, 7n, options.switches), limits };
  };
  const server = testServer((api) =>
    registerModelRoutes(api, {
      authorizer: options.authorizer ?? allow,
      policy: { resolve: (user) => resolve({ ...httpActor, ...user }) },
    }),
  );
  const get = (url: string) => server.app.inject({ url: `/v1${url}`, headers: bearer });
  return { server, get, asked };
};

const best = {
  model_id: "vendor/model 100%25",
  display_name: "Best",
  multiplier_display: "3x",
  description: "The best one.",
  tier: "premium",
  multimodal_capabilities: ["VISION_INPUT"],
  context_window: 200_000,
};
const plain = {
  model_id: "s",
  display_name: "Model S",
  multiplier_display: "",
  tier: "standard",
  multimodal_capabilities: [],
  context_window: 128_000,
};

describe("GET /models", () => {
  test("lists the enabled models in catalog order, with nothing else about them", async () => {
    const { get, asked } = serve();
    const answer = await get("/models");
    expect([answer.statusCode, answer.json()]).toEqual([200, { items: [best, plain] }]);
    expect(asked).toMatchObject([{ tenantId: httpActor.tenantId, userId: httpActor.userId }]);
  });

  test("does not heed kill switches", async () => {
    const { get } = serve({ switches: { force_standard_tier: true, disable_premium_tier: true } });
    expect((await get("/models")).json().items).toHaveLength(2);
  });
});

describe("GET /models/{model_id}", () => {
  test("decodes the id once", async () => {
    const answer = await serve().get(`/models/${encodeURIComponent("vendor/model 100%25")}`);
    expect([answer.statusCode, answer.json()]).toEqual([200, best]);
  });

  test("answers the same for a disabled and an unknown id", async () => {
    const { get } = serve();
    const answers = [await get("/models/off"), await get("/models/nothing")].map((answer) => {
      const { trace_id: _trace, instance: _instance, ...problem } = answer.json();
      return { status: answer.statusCode, problem };
    });
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]).toMatchObject({
      status: 404,
      problem: { code: "model_not_found", title: "model_not_found" },
    });
  });
});

describe.each(["/models", "/models/s"])("%s", (url) => {
  test("is 503 with Retry-After while policy is unavailable", async () => {
    const answer = await serve({ available: false }).get(url);
    expect([answer.statusCode, answer.json().code]).toEqual([503, "service_unavailable"]);
    expect(answer.headers["retry-after"]).toBe("5");
  });

  test("is 403 when refused, and policy is not asked", async () => {
    const { get, asked } = serve({
      authorizer: {
        authorize: async (_actor, { resourceType, action }) => {
          expect([resourceType, action]).toEqual(["model", url === "/models" ? "list" : "read"]);
          throw new AppError("forbidden");
        },
      },
    });
    const answer = await get(url);
    expect([answer.statusCode, answer.json().code]).toEqual([403, "forbidden"]);
    expect(asked).toEqual([]);
  });
});

test("the operations are documented", async () => {
  const { server } = serve();
  await server.app.ready();
  expect(server.openapi()).toMatchObject({
    paths: {
      "/models": { get: { operationId: "listModels", tags: ["models"] } },
      "/models/{model_id}": { get: { operationId: "getModel", tags: ["models"] } },
    },
    components: { schemas: { Model: { type: "object" } } },
  });
});

describe("POST /internal/policy:notify", () => {
  const tenant = "00000000-0000-4000-8000-00000000000A";
  const authorization = "Bearer 0123456789abcdef";
  let ops: OpsServer | undefined;
  afterEach(() => ops?.close());

  const post = async (
    payload: unknown,
    headers: Record<string, string> = { authorization },
    token: Secret | null = new Secret("0123456789abcdef"),
  ) => {
    const notified: unknown[] = [];
    ops = createOpsServer({
      config: { server: serverSection.parse({}), metrics: metricsSection.parse({}) },
      health: createHealth(),
      metrics: noMetrics,
      logger: noLogger,
      register: (app) =>
        registerPolicyNotify(app, {
          token: token ?? undefined,
          policy: { notify: async (...args) => void notified.push(args) },
        }),
    });
    const answer = await ops.app.inject({
      method: "POST",
      url: "/internal/policy:notify",
      headers: { "content-type": "application/json", ...headers },
      payload: typeof payload === "string" ? payload : JSON.stringify(payload),
    });
    return { answer, notified };
  };

  test("accepts a version of a tenant", async () => {
    const { answer, notified } = await post({ tenant_id: tenant, policy_version: 8 });
    expect([answer.statusCode, answer.json()]).toEqual([200, { accepted: true }]);
    expect(notified).toEqual([[asTenantId(tenant), 8n]]);
  });

  test.each<[string, unknown]>([
    ["no tenant", { policy_version: 8 }],
    ["a tenant that is no UUID", { tenant_id: "t", policy_version: 8 }],
    ["no version", { tenant_id: tenant }],
    ["version 0", { tenant_id: tenant, policy_version: 0 }],
    ["a version above 2^53 - 1", { tenant_id: tenant, policy_version: 2 ** 53 }],
    ["a version as text", { tenant_id: tenant, policy_version: "8" }],
    ["what is no object", [1]],
    ["what is no JSON", "{"],
    ["nothing", ""],
  ])("refuses %s", async (_name, payload) => {
    const { answer, notified } = await post(payload);
    expect([answer.statusCode, answer.json().code]).toEqual([400, "invalid_request"]);
    expect(notified).toEqual([]);
  });

  test("names what is malformed", async () => {
    const { answer } = await post({ tenant_id: "t" });
    expect(answer.json().errors.map(({ field }: { field: string }) => field)).toEqual([
      "tenant_id",
      "policy_version",
    ]);
  });

  test("needs the service token", async () => {
    const { answer, notified } = await post({ tenant_id: tenant, policy_version: 8 }, {});
    expect(answer.statusCode).toBe(401);
    expect(notified).toEqual([]);
  });

  test("does not exist where no token is configured", async () => {
    const { answer, notified } = await post(
      { tenant_id: tenant, policy_version: 8 },
      { authorization },
      null,
    );
    expect([answer.statusCode, answer.json().code]).toEqual([404, "route_not_found"]);
    expect(notified).toEqual([]);
  });
});
