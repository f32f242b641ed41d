import { stringify } from "yaml";
import type { Config } from "./schema.ts";

/**
 * The effective configuration as YAML, defaults filled in and secrets as `***` (ops.md §2.1): what
 * `mini-chat check-config` prints.
 */
export const printConfig = (config: Config): string =>
  // Through JSON, which is where a `Secret` masks itself.
  stringify(JSON.parse(JSON.stringify(config)), { lineWidth: 0, aliasDuplicateObjects: false });
