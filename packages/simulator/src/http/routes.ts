import type { Api } from "../formats/request.ts";
import type { Scenario } from "../scenario/scenario.ts";
import type { World } from "../world.ts";
import type { Exchange } from "./exchange.ts";
import { filesApi } from "./files-api.ts";
import { answerModelCall } from "./models-api.ts";
import { vectorStoresApi } from "./vector-stores-api.ts";

export type Endpoint =
  | { readonly kind: "model"; readonly answer: (exchange: Exchange, early: Scenario | null) => Promise<void> }
  | { readonly kind: "storage"; readonly answer: (exchange: Exchange) => Promise<void> };

type Route = readonly [method: string, path: string, endpoint: Endpoint];

/** What comes before the paths of §11.1. */
const PREFIX = /^(?:\/openai|\/anthropic)?(?:\/v1)?(?=\/)/;

/** The endpoints of providers.md §11.1; a `*` is one variable part of the path. */
export const routesOf = (world: World): readonly Route[] => {
  const model = (api: Api): Endpoint => ({
    kind: "model",
    answer: (exchange, early) => answerModelCall(world, api, early, exchange),
  });
  const storage = (answer: (exchange: Exchange) => Promise<void>): Endpoint => ({ kind: "storage", answer });
  const files = filesApi(world);
  const stores = vectorStoresApi(world);
  return [
    ["POST", "/responses", model("responses")],
    ["POST", "/deployments/*/responses", model("responses")],
    ["POST", "/chat/completions", model("chat")],
    ["POST", "/deployments/*/chat/completions", model("chat")],
    ["POST", "/messages", model("messages")],
    ["GET", "/files", storage(files.list)],
    ["POST", "/files", storage(files.upload)],
    ["GET", "/files/*", storage(files.get)],
    ["DELETE", "/files/*", storage(files.remove)],
    ["GET", "/files/*/content", storage(files.content)],
    ["GET", "/vector_stores", storage(stores.list)],
    ["POST", "/vector_stores", storage(stores.create)],
    ["GET", "/vector_stores/*", storage(stores.get)],
    ["DELETE", "/vector_stores/*", storage(stores.remove)],
    ["GET", "/vector_stores/*/files", storage(stores.listFiles)],
    ["POST", "/vector_stores/*/files", storage(stores.addFile)],
    ["GET", "/vector_stores/*/files/*", storage(stores.getFile)],
    ["DELETE", "/vector_stores/*/files/*", storage(stores.removeFile)],
    ["POST", "/vector_stores/*/search", storage(stores.search)],
  ];
};

export interface Match {
  readonly endpoint: Endpoint;
  readonly params: readonly string[];
}

/** The endpoint for a path without its query, or the status that says why there is none. */
export const findRoute = (routes: readonly Route[], method: string, path: string): Match | 404 | 405 => {
  const parts = path.replace(PREFIX, "").split("/");
  let status: 404 | 405 = 404;
  for (const [routeMethod, pattern, endpoint] of routes) {
    const params = paramsOf(pattern.split("/"), parts);
    if (params === null) continue;
    if (routeMethod === method) return { endpoint, params };
    status = 405;
  }
  return status;
};

const paramsOf = (pattern: readonly string[], parts: readonly string[]): readonly string[] | null => {
  if (pattern.length !== parts.length) return null;
  if (!pattern.every((part, at) => (part === "*" ? parts[at] !== "" : part === parts[at]))) return null;
  return parts.filter((_part, at) => pattern[at] === "*").map(decode);
};

const decode = (part: string): string => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
};
