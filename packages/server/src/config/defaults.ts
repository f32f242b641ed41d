import { DEVELOPMENT_TOKEN, type Problem } from "./check.ts";
import type { Env } from "./env.ts";
import type { Tree } from "./tree.ts";

/** What `mini-chat serve` starts from when it is given no configuration file. */
export interface DevelopmentConfig {
  readonly tree: Tree;
  readonly problems: readonly Problem[];
  /** Whether answers come from the simulator, so that it has to be running. */
  readonly usesSimulator: boolean;
}

/** Whether a start without a file plays its provider: there is no key to reach a real one with. */
export const needsSimulator = (env: Env): boolean => (env["OPENAI_API_KEY"] ?? "").trim() === "";

/**
 * A configuration to try the product with: one user whose token is `dev-token`, two models of one
 * provider. With `OPENAI_API_KEY` that is OpenAI or what `OPENAI_BASE_URL` names, else the simulator at
 * `simulatorPort`, where null stands for a port nobody has chosen yet.
 */
export function developmentConfig(options: {
  readonly simulatorPort: number | null;
  readonly env: Env;
}): DevelopmentConfig {
  const usesSimulator = needsSimulator(options.env);
  const upstream = usesSimulator
    ? simulatorUpstream(options.simulatorPort)
    : openaiUpstream(options.env["OPENAI_BASE_URL"]?.trim() || "https://api.openai.com/v1");
  const problems =
    upstream === null
      ? [{ key: "OPENAI_BASE_URL", message: "must be an http or https URL without credentials" }]
      : [];
  return { tree: treeWith(upstream ?? simulatorUpstream(null)), problems, usesSimulator };
}

const UNCHOSEN_PORT = 8089;

interface Upstream {
  readonly host: string;
  readonly port: number;
  readonly use_http: boolean;
  readonly api_path: string;
  readonly auth?: { readonly kind: "apikey"; readonly secret_ref: string };
}

const simulatorUpstream = (port: number | null): Upstream => ({
  host: "127.0.0.1",
  port: port ?? UNCHOSEN_PORT,
  use_http: true,
  api_path: "/v1/responses",
});

/** The provider at a base URL as OpenAI's own clients take it: with `/v1`, without `/responses`. */
const openaiUpstream = (baseUrl: string): Upstream | null => {
  if (!URL.canParse(baseUrl)) return null;
  const url = new URL(baseUrl);
  if (!/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") return null;
  const use_http = url.protocol === "http:";
  return {
    host: url.hostname,
    port: Number(url.port) || (use_http ? 80 : 443),
    use_http,
    api_path: `${url.pathname.replace(/\/+$/, "")}/responses${url.search}`,
    auth: { kind: "apikey", secret_ref: "openai-key" },
  };
};

const treeWith = (upstream: Upstream): Tree => ({
  auth: {
    mode: "static",
    tokens: [
      {
        token: DEVELOPMENT_TOKEN,
        tenant_id: "00000000-df51-5b42-9538-d2b56b7ee953",
        user_id: "11111111-6a88-4768-9dfc-6bcd5187d9ed",
      },
    ],
  },
  client_credentials: { client_id: "mini-chat-development", client_secret: "unused-in-development" },
  egress: { allow_http_upstream: upstream.use_http },
  providers: { openai: { kind: "openai_responses", storage_kind: "openai", ...upstream } },
  plugins: { model_policy: { type: "static", static: { model_catalog: catalog } } },
});

// Credits per token: the standard model counts once, the premium one three times (quota.md §1.1).
const catalog = [
  {
    id: "gpt-4.1-mini",
    provider_model_id: "gpt-4.1-mini",
    display_name: "GPT-4.1 mini",
    description: "Fast, for everyday questions",
    tier: "standard",
    input_tokens_credit_multiplier_micro: 1_000_000,
    output_tokens_credit_multiplier_micro: 3_000_000,
    multiplier_display: "1x",
    preference: { is_default: true, sort_order: 0 },
  },
  {
    id: "gpt-4.1",
    provider_model_id: "gpt-4.1",
    display_name: "GPT-4.1",
    description: "Thorough, for difficult questions",
    tier: "premium",
    input_tokens_credit_multiplier_micro: 3_000_000,
    output_tokens_credit_multiplier_micro: 9_000_000,
    multiplier_display: "3x",
    preference: { is_default: false, sort_order: 1 },
  },
].map((model) => ({
  ...model,
  provider_id: "openai",
  provider_display_name: "OpenAI",
  enabled: true,
  multimodal_capabilities: ["VISION_INPUT", "RAG"],
  context_window: 1_047_576,
  max_input_tokens: 1_014_808,
  max_output_tokens: 32_768,
  max_num_results: 5,
  max_tool_calls: 2,
  web_search_context_size: "low",
  general_config: {
    max_file_size_mb: 25,
    api_params: { temperature: 0.7 },
    tool_support: {
      web_search: true,
      file_search: true,
      code_interpreter: true,
      image_generation: false,
      mcp: false,
    },
  },
}));
