import { DEVELOPMENT_TOKEN, type Problem } from "../config/check.ts";
import { developmentConfig } from "../config/defaults.ts";
import { processEnv } from "../config/env.ts";
import { isLoopback, parseHostPort } from "../config/fields.ts";
import { loadConfig } from "../config/load.ts";
import { type Config, ConfigError } from "../config/schema.ts";
import { createStaticPlugin } from "../policy/static-plugin.ts";
import { hasAdapter } from "../providers/registry.ts";
import type { Arguments } from "./arguments.ts";

export interface Configuration {
  readonly config: Config;
  readonly warnings: readonly Problem[];
}

/**
 * The configuration of a command line. Without a file it is the development configuration, whose
 * well-known token must not be reachable from elsewhere. Throws `ConfigError` with every problem.
 */
export const configurationOf = (
  given: Pick<Arguments, "config" | "flags">,
  simulatorPort: number | null,
): Configuration => {
  const env = processEnv();
  const verdict = loadConfig({
    file: given.config,
    env,
    flags: given.flags,
    base: developmentConfig({ simulatorPort, env }),
  });
  if ("problems" in verdict) throw new ConfigError(verdict.problems);
  const { config, warnings } = verdict;
  const host = parseHostPort(config.server.bind_address)?.host ?? "";
  if (given.config === undefined && !isLoopback(host) && hasDevelopmentToken(config)) {
    const message = "the development configuration serves on loopback only; give --config";
    throw new ConfigError([{ key: "server.bind_address", message }]);
  }
  checkProviderKinds(config);
  checkCatalog(config);
  return { config, warnings };
};

const hasDevelopmentToken = ({ auth }: Config): boolean =>
  auth.tokens.some(({ token }) => token.reveal() === DEVELOPMENT_TOKEN);

const checkProviderKinds = ({ providers }: Config): void => {
  const problems = Object.entries(providers)
    .filter(([, { kind }]) => !hasAdapter(kind))
    .map(([id, { kind }]) => ({ key: `providers.${id}.kind`, message: `${kind} is not supported yet` }));
  if (problems.length > 0) throw new ConfigError(problems);
};

/** The catalog's entries are the policy slice's to judge; a bad one is a problem of the configuration. */
const checkCatalog = (config: Config): void => {
  const { type, static: fixed } = config.plugins.model_policy;
  if (type === "static") createStaticPlugin(fixed, { providerIds: new Set(Object.keys(config.providers)) });
};
