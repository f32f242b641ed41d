import type { Config } from "../config/schema.ts";
import { createHttpPlugin } from "../policy/http-plugin.ts";
import type { ModelPolicyPlugin } from "../policy/plugin.ts";
import { createStaticPlugin } from "../policy/static-plugin.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Given } from "./given.ts";
import { PluginError } from "./plugin-error.ts";

/**
 * The one active policy plugin (policy.md §10). Throws `ConfigError` for an invalid static catalog and
 * `PluginError` for a name nobody registered.
 */
export const choosePolicyPlugin = (
  config: Config,
  providerIds: ReadonlySet<string>,
  given: Given,
  logger: Logger,
): ModelPolicyPlugin => {
  if (given.overrides.policyPlugin !== undefined) return given.overrides.policyPlugin;
  const { type, static: fixed, http } = config.plugins.model_policy;
  if (type === "static") return createStaticPlugin(fixed, { providerIds, logger });
  if (type === "http") {
    return createHttpPlugin(http, {
      providerIds,
      timeoutMs: config.policy_cache.plugin_timeout_ms,
      env: given.variable,
    });
  }
  throw new PluginError(`plugins.model_policy.type: no policy plugin is named ${type}`);
};
