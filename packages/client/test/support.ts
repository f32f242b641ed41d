import { startTestApp, type TestApp, type TestAppOptions } from "../../server/test/support/app.ts";
import { callers } from "../../server/test/support/config.ts";
import { type Client, type ClientOptions, createClient, type Turn, type TurnEvent } from "../src/index.ts";

export interface ClientApp extends TestApp {
  /** Of Ann, at the server itself. */
  readonly client: Client;
  /** Where the server is, without `/v1`. */
  readonly origin: string;
}

/** A client of Ann's that does not wait for long. */
export const clientAt = (baseUrl: string, options: Partial<ClientOptions> = {}): Client =>
  createClient({ baseUrl, token: callers.ann.token, recoverForMs: 2_000, ...options });

export const startClientApp = async (options?: TestAppOptions): Promise<ClientApp> => {
  const app = await startTestApp(options);
  const origin = app.base.replace(/\/v1$/, "");
  return { ...app, origin, client: clientAt(origin) };
};

/** The text a reader shows who knows but the events. */
export const shownOf = (events: readonly TurnEvent[]): string => {
  let text = "";
  for (const event of events) {
    if (event.type === "delta" && event.data.type === "text") text += event.data.content;
    if (event.type === "replaced") text = event.data.text;
  }
  return text;
};

export const eventsOf = async (turn: Turn): Promise<TurnEvent[]> => {
  const events: TurnEvent[] = [];
  for await (const event of turn) events.push(event);
  return events;
};
