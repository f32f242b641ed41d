import { z } from "zod";
import { asTenantId } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import type { Secret } from "../config/secret.ts";
import { AppError } from "../errors.ts";
import { problems } from "../http/openapi.ts";
import { requireToken } from "../http/ops-server.ts";
import type { ApiServer } from "../http/server.ts";
import { uuid, validationError } from "../http/validate.ts";
import { findModel } from "./select.ts";
import type { PolicyService } from "./service.ts";
import type { ModelEntry } from "./snapshot.ts";

const modelSchema = z
  .object({
    model_id: z.string(),
    display_name: z.string(),
    multiplier_display: z.string(),
    description: z.string().optional(),
    tier: z.enum(["standard", "premium"]),
    multimodal_capabilities: z.array(z.string()),
    context_window: z.int(),
  })
  .meta({ id: "Model" });

/** What a client may know of a model (policy.md §15). */
const modelView = (model: ModelEntry) => ({
  model_id: model.id,
  display_name: model.displayName,
  multiplier_display: model.multiplierDisplay,
  ...(model.description === "" ? {} : { description: model.description }),
  tier: model.tier,
  multimodal_capabilities: [...model.multimodalCapabilities],
  context_window: model.contextWindow,
});

export interface ModelRoutesDeps {
  readonly authorizer: Authorizer;
  readonly policy: Pick<PolicyService, "resolve">;
}

/** `/models` and `/models/{model_id}` (policy.md §15): the enabled models of the current snapshot. */
export const registerModelRoutes = (api: ApiServer, { authorizer, policy }: ModelRoutesDeps): void => {
  api.get(
    "/models",
    {
      schema: {
        operationId: "listModels",
        tags: ["models"],
        summary: "List the models you can choose from",
        response: {
          200: z.object({ items: z.array(modelSchema) }),
          ...problems("forbidden", "service_unavailable"),
        },
      },
    },
    async (request) => {
      await authorizer.authorize(request.actor, { resourceType: "model", action: "list" });
      const { snapshot } = await policy.resolve(request.actor);
      return { items: snapshot.modelCatalog.filter((model) => model.enabled).map(modelView) };
    },
  );
  api.get(
    "/models/:model_id",
    {
      schema: {
        operationId: "getModel",
        tags: ["models"],
        summary: "Read a model",
        params: z.object({ model_id: z.string() }),
        response: { 200: modelSchema, ...problems("model_not_found", "forbidden", "service_unavailable") },
      },
    },
    async (request) => {
      await authorizer.authorize(request.actor, { resourceType: "model", action: "read" });
      const { snapshot } = await policy.resolve(request.actor);
      const model = findModel(snapshot, request.params.model_id);
      if (model?.enabled !== true) {
        throw new AppError("model_not_found", { detail: "There is no such model." });
      }
      return modelView(model);
    },
  );
};

const notification = z.object({
  tenant_id: uuid().transform(asTenantId),
  policy_version: z.int().min(1).transform(BigInt),
});

/**
 * `POST /internal/policy:notify` (policy.md §9 rule 5): accepted at once, fetched behind the answer. Without
 * a token there is no such path, whatever the method (ops.md §2.2).
 */
export const registerPolicyNotify = (
  ops: ApiServer,
  deps: { readonly policy: Pick<PolicyService, "notify">; readonly token: Secret | undefined },
): void => {
  if (deps.token === undefined) return;
  ops.post(
    "/internal/policy::notify",
    { onRequest: requireToken(deps.token), schema: { body: z.unknown() } },
    async (request) => {
      const parsed = notification.safeParse(request.body);
      // 400 here, where the public API says 422 for a wrong field.
      if (!parsed.success) {
        throw new AppError("invalid_request", {
          ...validationError(parsed.error, "body").options,
          status: 400,
        });
      }
      void deps.policy.notify(parsed.data.tenant_id, parsed.data.policy_version);
      return { accepted: true };
    },
  );
};
