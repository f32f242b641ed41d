import { request } from "undici";
import { z } from "zod";
import type { Config } from "../config/schema.ts";
import type { Secret } from "../config/secret.ts";
import type { Clock } from "../lib/clock.ts";

/** `providers.<id>.auth` and `tenant_overrides.<tenant>.auth` (providers.md §8.4). */
export type UpstreamAuth = NonNullable<Config["providers"][string]["auth"]>;

/** Looks a secret reference up; null when nothing is stored under it. */
export type SecretSource = (reference: string) => Secret | null;

export type AuthHeaders = Readonly<Record<string, string>>;

/** How calls to one upstream are authenticated. Values are resolved per call and kept nowhere else. */
export interface Credentials {
  /** The headers known without asking anyone; null when a secret is missing. */
  headers(): AuthHeaders | null;
  /** Headers that have to be fetched first, on top of `headers()`; null when there are none. */
  readonly fetched: ((signal: AbortSignal) => Promise<AuthHeaders>) | null;
  /** The upstream refused the credentials: what was fetched is not used again. */
  refused(): void;
}

const nothingToForget = (): void => {};

/** The credentials an `auth` entry describes; without an entry, none are sent. */
export function createCredentials(
  auth: UpstreamAuth | undefined,
  deps: { readonly secret: SecretSource; readonly clock: Clock; readonly tokenTimeoutMs: number },
): Credentials {
  if (auth === undefined) return { headers: () => ({}), fetched: null, refused: nothingToForget };
  if (auth.kind === "apikey") {
    const headers = (): AuthHeaders | null => {
      const key = deps.secret(auth.secret_ref);
      return key === null ? null : { [auth.header.toLowerCase()]: auth.prefix + key.reveal() };
    };
    return { headers, fetched: null, refused: nothingToForget };
  }
  return clientCredentials(auth, deps);
}

type ClientCredentials = Extract<UpstreamAuth, { kind: "oauth2_client_credentials" }>;

const MAX_TOKEN_AGE_MS = 300_000;
const EXPIRY_MARGIN_MS = 30_000;
const MAX_TOKEN_BODY_BYTES = 65_536;

const tokenAnswer = z.object({ access_token: z.string().min(1), expires_in: z.number().default(0) });

/** OAuth 2.0 client credentials: one token at a time, kept `min(300 s, expires_in − 30 s)`. */
const clientCredentials = (
  auth: ClientCredentials,
  deps: { readonly secret: SecretSource; readonly clock: Clock; readonly tokenTimeoutMs: number },
): Credentials => {
  let cached: { readonly headers: AuthHeaders; readonly until: number } | null = null;
  let fetching: Promise<AuthHeaders> | null = null;

  const fetchToken = async (): Promise<AuthHeaders> => {
    const [id, secret] = [deps.secret(auth.client_id_ref), deps.secret(auth.client_secret_ref)];
    if (id === null || secret === null) throw new Error("the client credentials are missing");
    const { token, lifetimeMs } = await requestToken(auth, id, secret, deps.tokenTimeoutMs);
    const headers = { authorization: `Bearer ${token}` };
    const keepMs = Math.min(MAX_TOKEN_AGE_MS, lifetimeMs - EXPIRY_MARGIN_MS);
    cached = keepMs > 0 ? { headers, until: deps.clock.now() + keepMs } : null;
    return headers;
  };

  return {
    headers: () =>
      deps.secret(auth.client_id_ref) === null || deps.secret(auth.client_secret_ref) === null ? null : {},
    fetched: async (signal) => {
      if (cached !== null && deps.clock.now() < cached.until) return cached.headers;
      // Shared: one caller's abort must not take the token away from the others.
      fetching ??= fetchToken().finally(() => {
        fetching = null;
      });
      return untilAborted(fetching, signal);
    },
    refused: () => {
      cached = null;
    },
  };
};

const requestToken = async (
  auth: ClientCredentials,
  id: Secret,
  secret: Secret,
  timeoutMs: number,
): Promise<{ token: string; lifetimeMs: number }> => {
  const form = new URLSearchParams({
    grant_type: "client_credentials",
    client_id: id.reveal(),
    client_secret: secret.reveal(),
    ...(auth.scopes.length > 0 ? { scope: auth.scopes.join(" ") } : {}),
  });
  // undici's `request` follows no redirects.
  const { statusCode, body } = await request(auth.token_url, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", accept: "application/json" },
    body: form.toString(),
    signal: AbortSignal.timeout(timeoutMs),
  });
  let text = "";
  for await (const chunk of body) {
    text += String(chunk);
    if (text.length > MAX_TOKEN_BODY_BYTES) throw new Error("the token endpoint sent too much");
  }
  // The body may repeat what we sent, so no part of it goes into the error.
  if (statusCode !== 200) throw new Error(`the token endpoint answered ${statusCode}`);
  const parsed = tokenAnswer.safeParse(parseJson(text));
  if (!parsed.success) throw new Error("the token endpoint sent no usable token");
  return { token: parsed.data.access_token, lifetimeMs: parsed.data.expires_in * 1000 };
};

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const untilAborted = <T>(promise: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const onAbort = (): void => reject(new Error("aborted"));
    if (signal.aborted) return onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
