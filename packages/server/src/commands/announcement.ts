import { DEVELOPMENT_TOKEN } from "../config/check.ts";
import type { Config } from "../config/schema.ts";

export interface Announced {
  readonly config: Pick<Config, "auth" | "server" | "url_prefix">;
  readonly port: number;
  readonly pageBuilt: boolean;
  /** Null when answers come from elsewhere. */
  readonly simulatorPort: number | null;
}

/** What a person who tries the product is told at its start: where it is, and how one gets in. */
export const announcement = ({ config, port, pageBuilt, simulatorPort }: Announced): string => {
  const { auth, server, url_prefix: prefix } = config;
  const base = `http://127.0.0.1:${port}${prefix}`;
  const takesToken =
    !auth.disabled &&
    auth.mode === "static" &&
    auth.tokens.some(({ token }) => token.reveal() === DEVELOPMENT_TOKEN);
  const lines = [
    `mini-chat serves on ${base}/v1${takesToken ? ` with the token "${DEVELOPMENT_TOKEN}"` : ""}; docs at ${base}/docs`,
  ];
  if (server.web_enabled) lines.push(pageLine(base, pageBuilt, takesToken));
  lines.push(
    simulatorPort === null
      ? "Answers come from the configured provider."
      : `No OPENAI_API_KEY: answers come from the built-in simulator (http://127.0.0.1:${simulatorPort}).`,
  );
  return lines.join("\n");
};

const pageLine = (base: string, built: boolean, takesToken: boolean): string => {
  if (!built) return "The page is not built (npm run build): the API is served alone.";
  return takesToken
    ? `Chat in your browser, signed in: ${base}/#token=${DEVELOPMENT_TOKEN}`
    : `Chat in your browser: ${base}/`;
};
