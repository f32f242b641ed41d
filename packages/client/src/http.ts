import { ConnectionError, errorOf, isClientError } from "./errors.ts";

export interface ClientOptions {
  /** Where mini-chat is, with its `url_prefix` and without `/v1`: `https://host/mini-chat`, or "" in its page. */
  readonly baseUrl: string;
  /**
   * The bearer token, or where to get it: asked before every request, and once more when the server refuses
   * the token given before, which is then passed in.
   */
  readonly token: string | ((refused?: string) => string | Promise<string>);
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** How long to look for the outcome of a turn whose stream broke, counted from the last sign of life; ms. */
  readonly recoverForMs?: number | undefined;
  /** Silence after which a stream counts as lost; more than the server's ping interval. Default 90 000 ms. */
  readonly silenceMs?: number | undefined;
  /** Limit of a call that is no stream and no upload. Default 35 000 ms. */
  readonly timeoutMs?: number | undefined;
}

/** What every operation takes. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export type QueryValue = string | number | undefined;

export interface Call {
  readonly method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, QueryValue>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is. */
  readonly raw?: { readonly type: string | undefined; readonly body: () => NonNullable<RequestInit["body"]> };
  readonly signal?: AbortSignal | undefined;
  /** How often a read is tried; default 4. */
  readonly attempts?: number;
}

export interface Http {
  readonly options: ClientOptions;
  urlOf(call: Pick<Call, "path" | "query">): string;
  /**
   * Runs `attempt` with a token, and once more when that is refused and can be renewed. Each attempt starts the
   * limit anew. The signal ends the wait for a token.
   */
  authorized(
    attempt: (token: string) => Promise<Response>,
    signal: AbortSignal | undefined,
    limit?: Limit,
  ): Promise<Response>;
  /**
   * One exchange; the answer if it is a success, with the limit running on. Throws a `ClientError`, or the reason
   * of the signal.
   */
  open(call: Call, limit?: Limit): Promise<Response>;
  /** As `open`, within the time limit; reads are repeated with growing pauses when the way is disturbed. */
  read<T>(call: Call, take: (answer: Response) => Promise<T>): Promise<T>;
  json<T>(call: Call): Promise<T>;
  /** For answers without a body. */
  done(call: Call): Promise<void>;
}

const maxPauseMs = 10_000;

/** Pauses between attempts: doubled from 100 ms to 3 s, a quarter of it by chance. */
export const backoffMs = (attempt: number): number =>
  Math.min(100 * 2 ** attempt, 3_000) * (1 - Math.random() / 4);

/** Resolves after the time; rejects with the signal's reason. */
export const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const leave = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", leave);
      resolve();
    }, ms);
    if (signal?.aborted === true) leave();
    else signal?.addEventListener("abort", leave, { once: true });
  });

const queryString = (query: Readonly<Record<string, QueryValue>> = {}): string => {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    value === undefined || value === "" ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(value)}`],
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
};

const initOf = (call: Call, token: string): RequestInit => {
  const headers: Record<string, string> = { authorization: `Bearer ${token}` };
  const init: RequestInit = { method: call.method ?? "GET", headers };
  if (call.signal !== undefined) init.signal = call.signal;
  if (call.body !== undefined) {
    headers["content-type"] = "application/json";
    init.body = JSON.stringify(call.body);
  }
  if (call.raw !== undefined) {
    if (call.raw.type !== undefined) headers["content-type"] = call.raw.type;
    const body = call.raw.body();
    init.body = body;
    // A streamed body has to say so; the types of fetch do not know the word yet.
    if (body instanceof ReadableStream) Object.assign(init, { duplex: "half" });
  }
  return init;
};

/** Milliseconds to wait before a read is repeated; null when that is pointless. */
const pauseBeforeRepeat = (error: unknown, attempt: number): number | null => {
  if (!isClientError(error)) return null;
  const passing =
    error.code === "connection_failed" ||
    error.code === "too_many_requests" ||
    (error.status !== undefined && error.status >= 502 && error.status <= 504);
  if (!passing) return null;
  const asked = error.retryAfterSecs === undefined ? 0 : error.retryAfterSecs * 1_000;
  return asked > maxPauseMs ? null : Math.max(asked, backoffMs(attempt));
};

/** A limit on the time a server may take; it does not run while a token is awaited. */
export interface Limit {
  /** Ends when the time has run out, with a `ConnectionError`, or with the caller's signal. */
  readonly signal: AbortSignal;
  /** Begins the time, or begins it anew. */
  start(): void;
  stop(): void;
}

/** A limit of so many ms beside the caller's signal; it does not run yet. */
export const createLimit = (ms: number, message: string, signal: AbortSignal | undefined): Limit => {
  const late = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stop = (): void => clearTimeout(timer);
  return {
    signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]),
    start: () => {
      stop();
      timer = setTimeout(() => late.abort(new ConnectionError(message)), ms);
    },
    stop,
  };
};

/** What the promise brings, unless the signal ends first: then it rejects with the signal's reason. */
const unlessAborted = <T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    const leave = (): void => reject(signal?.reason);
    promise.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
    if (signal?.aborted === true) leave();
    else signal?.addEventListener("abort", leave, { once: true });
  });

/** Turns what fetch throws into a `ConnectionError`, unless it was told to stop. */
export const whileConnected = async <T>(
  signal: AbortSignal | undefined,
  run: () => Promise<T>,
): Promise<T> => {
  try {
    return await run();
  } catch (error) {
    signal?.throwIfAborted();
    throw isClientError(error) ? error : new ConnectionError("the connection failed", { cause: error });
  }
};

/** The exchange with one server: address, token, errors, repeated reads. */
export const createHttp = (options: ClientOptions): Http => {
  const { baseUrl, token, timeoutMs = 35_000 } = options;
  const send = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const root = `${baseUrl.replace(/\/+$/, "")}/v1`;
  const urlOf: Http["urlOf"] = ({ path, query }) => `${root}${path}${queryString(query)}`;

  const authorized: Http["authorized"] = async (attempt, signal, limit) => {
    const tokenAfter = async (refused?: string): Promise<string> =>
      typeof token === "function" ? unlessAborted(signal, (async () => token(refused))()) : token;
    const attemptWith = (bearer: string): Promise<Response> => {
      signal?.throwIfAborted();
      limit?.start();
      return attempt(bearer);
    };
    const first = await tokenAfter();
    const answer = await attemptWith(first);
    if (answer.status !== 401 || typeof token !== "function") return answer;
    await answer.body?.cancel();
    limit?.stop();
    return attemptWith(await tokenAfter(first));
  };

  const open: Http["open"] = async (call, limit) => {
    const signal = limit?.signal ?? call.signal;
    signal?.throwIfAborted();
    const answer = await authorized(
      (bearer) => whileConnected(signal, () => send(urlOf(call), initOf({ ...call, signal }, bearer))),
      signal,
      limit,
    );
    if (answer.ok) return answer;
    throw await errorOf(answer);
  };

  const read: Http["read"] = async (call, take) => {
    for (let attempt = 0; ; attempt += 1) {
      const limit = createLimit(timeoutMs, "no answer in time", call.signal);
      try {
        const answer = await open(call, limit);
        return await whileConnected(limit.signal, () => take(answer));
      } catch (error) {
        const ms = pauseBeforeRepeat(error, attempt);
        const repeatable = (call.method ?? "GET") === "GET" && attempt + 1 < (call.attempts ?? 4);
        if (ms === null || !repeatable) throw error;
        await pause(ms, call.signal);
      } finally {
        limit.stop();
      }
    }
  };

  return {
    options,
    urlOf,
    authorized,
    open,
    read,
    json: <T>(call: Call) => read(call, async (answer) => (await answer.json()) as T),
    done: (call) => read(call, async (answer) => void (await answer.text())),
  };
};
