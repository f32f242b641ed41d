import type { Config } from "../config/schema.ts";
import type { ApiServer } from "./base.ts";

export interface OpenApi {
  /** The document; the server must be ready. */
  render(): object;
}

export const documentApi = (_app: ApiServer, _config: Pick<Config, "server" | "url_prefix">): OpenApi => ({
  render: () => ({}),
});
