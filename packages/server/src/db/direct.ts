import pg from "pg";
import { backoffMs } from "../lib/backoff.ts";
import { sleep } from "../lib/sleep.ts";

export interface DirectOptions {
  /** Must reach the server itself, not a transaction-mode pooler (ops.md §8). */
  readonly url: string;
  readonly applicationName?: string;
  readonly onError?: (error: Error) => void;
}

/** First key of every advisory lock of this program (ops.md §8). */
export const lockSpace = 19779;

/**
 * The process's one dedicated connection: LISTEN, NOTIFY and advisory locks, none of which may ride
 * on a pooled connection. It reconnects by itself (0.5–30 s); a lost connection frees its locks, and
 * the work done under them is told by its signal. Losing notifications is harmless: every listener
 * also polls.
 */
export class DirectConnection {
  readonly #options: DirectOptions;
  readonly #channels = new Map<string, (payload: string) => void>();
  readonly #stop = new AbortController();
  #client: pg.Client | null = null;
  #lost = new AbortController();
  #connecting: Promise<void> | null = null;

  constructor(options: DirectOptions) {
    this.#options = options;
  }

  /** Connects in the background and stays connected; the first attempt is awaited. */
  async start(): Promise<void> {
    await this.#connect().catch((error: Error) => {
      this.#options.onError?.(error);
      this.#reconnect();
    });
  }

  /** Calls `handler` with the payload of every notification of the channel, from now on. */
  async listen(channel: string, handler: (payload: string) => void): Promise<void> {
    this.#channels.set(channel, handler);
    await this.#client?.query(`listen ${channel}`);
  }

  /** Sends a notification, best effort: never throws, drops it while not connected. */
  notify(channel: string, payload: string): void {
    this.#client?.query("select pg_notify($1, $2)", [channel, payload]).catch((error: Error) => {
      this.#options.onError?.(error);
    });
  }

  /**
   * Runs `work` while holding the advisory lock, or returns false at once when another process (or
   * nobody, for want of a connection) holds it. The signal fires when the connection is lost.
   */
  async withLock(lockId: number, work: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
    const client = this.#client;
    if (client === null) return false;
    const lost = this.#lost.signal;
    const { rows } = await client.query<{ held: boolean }>("select pg_try_advisory_lock($1, $2) as held", [
      lockSpace,
      lockId,
    ]);
    if (rows[0]?.held !== true) return false;
    try {
      await work(AbortSignal.any([lost, this.#stop.signal]));
    } finally {
      await client.query("select pg_advisory_unlock($1, $2)", [lockSpace, lockId]).catch(() => {});
    }
    return true;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#connecting?.catch(() => {});
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => {});
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#options.url,
      application_name: this.#options.applicationName ?? "mini-chat direct",
      keepAlive: true,
      // A notification is sent while another statement is under way.
      pipeline: true,
      // A holder that died without closing its socket loses its locks within 30 s (ops.md §8).
      options: "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
    } as pg.ClientConfig);
    let ended = false;
    client.on("error", (error) => this.#options.onError?.(error));
    client.on("end", () => {
      ended = true;
      if (this.#client !== client) return;
      this.#client = null;
      this.#lost.abort();
      this.#reconnect();
    });
    client.on("notification", (message) => this.#channels.get(message.channel)?.(message.payload ?? ""));
    await client.connect();
    for (const channel of this.#channels.keys()) await client.query(`listen ${channel}`);
    if (ended || this.#stop.signal.aborted) {
      await client.end().catch(() => {});
      throw new Error("direct connection ended while connecting");
    }
    this.#lost = new AbortController();
    this.#client = client;
  }

  #reconnect(): void {
    if (this.#connecting !== null || this.#stop.signal.aborted) return;
    this.#connecting = this.#retry().finally(() => {
      this.#connecting = null;
    });
  }

  async #retry(): Promise<void> {
    for (let attempt = 0; !this.#stop.signal.aborted; attempt += 1) {
      await sleep(backoffMs(attempt, { baseMs: 500, maxMs: 30_000 }), this.#stop.signal);
      if (this.#stop.signal.aborted) return;
      try {
        await this.#connect();
        return;
      } catch (error) {
        this.#options.onError?.(error as Error);
      }
    }
  }
}
