import { randomBytes } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../config/schema.ts";
import { AppError } from "../errors.ts";
import type { ApiServer } from "../http/server.ts";
import type { Asset, BuiltPage } from "./built.ts";
import { contentSecurityPolicy, pageSettings, renderPage } from "./document.ts";

const guards = {
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
} as const;

const yearSecs = 31_536_000;

/** The page at `{prefix}/` and its files below `{prefix}/assets/` (api.md §9). */
export const registerPage = (
  root: ApiServer,
  page: BuiltPage,
  config: Pick<Config, "auth" | "page" | "url_prefix">,
): void => {
  const { url_prefix: prefix } = config;
  const settings = pageSettings(config);
  root.get(`${prefix}/`, async (_request, reply) => {
    const nonce = randomBytes(16).toString("base64url");
    return reply
      .headers({
        ...guards,
        "content-security-policy": contentSecurityPolicy(config.page.frame_ancestors, nonce),
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
      })
      .type("text/html; charset=utf-8")
      .send(renderPage(page.index, settings, nonce));
  });
  if (prefix !== "") root.get(prefix, async (_request, reply) => reply.redirect(`${prefix}/`, 308));
  root.get(`${prefix}/assets/:name`, async (request: FastifyRequest, reply) => {
    const asset = page.assets.get((request.params as { readonly name: string }).name);
    if (asset === undefined)
      throw new AppError("route_not_found", { detail: "There is nothing at this path." });
    return sendAsset(request, reply, asset);
  });
};

const sendAsset = async (
  request: FastifyRequest,
  reply: FastifyReply,
  asset: Asset,
): Promise<FastifyReply> => {
  reply
    .headers({
      ...guards,
      "cache-control": `public, max-age=${yearSecs}, immutable`,
      vary: "accept-encoding",
    })
    .type(asset.type);
  const takesGzip = /\bgzip\b/.test(String(request.headers["accept-encoding"] ?? ""));
  const compressed = takesGzip ? await asset.gzipped() : null;
  return compressed === null
    ? reply.send(asset.body)
    : reply.header("content-encoding", "gzip").send(compressed);
};
