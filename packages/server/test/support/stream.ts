import { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";

/** One event off the wire, as sent. */
export interface WireEvent {
  readonly event: string;
  readonly data: Record<string, unknown>;
  /** Of resumable turns only. */
  readonly id?: string;
}

/** An answer that is either a stream (200) or a problem. */
export interface OpenedStream {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The next event; undefined after the end. */
  next(): Promise<WireEvent | undefined>;
  /** Reads until an event of this name came; fails when the stream ends without it. */
  until(name: string): Promise<WireEvent>;
  /** Everything that is left. */
  rest(): Promise<WireEvent[]>;
  /** The body of a problem. */
  problem(): Promise<Record<string, unknown>>;
  /** The raw text received so far, comments included. */
  raw(): string;
  /** Leaves without a word, as a closed tab does. */
  disconnect(): void;
  /** Stops reading from the socket, so that the server meets back-pressure. */
  pause(): void;
  resume(): void;
}

const parseFrame = (frame: string): WireEvent | undefined => {
  const name = /^event: ([^\n]*)$/m.exec(frame)?.[1];
  const data = /^data: ([^\n]*)$/m.exec(frame)?.[1];
  const id = /^id: ([^\n]*)$/m.exec(frame)?.[1];
  if (name === undefined || data === undefined) return undefined;
  const event = { event: name, data: JSON.parse(data) as Record<string, unknown> };
  return id === undefined ? event : { ...event, id };
};

class Reader implements OpenedStream {
  readonly #events: WireEvent[] = [];
  readonly #request: ClientRequest;
  readonly #response: IncomingMessage;
  #raw = "";
  #buffered = "";
  #ended = false;
  #wake: () => void = () => {};

  constructor(clientRequest: ClientRequest, response: IncomingMessage) {
    this.#request = clientRequest;
    this.#response = response;
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => this.#take(chunk));
    const end = (): void => {
      this.#ended = true;
      this.#wake();
    };
    response.on("end", end).on("close", end).on("error", end);
  }

  get status(): number {
    return this.#response.statusCode ?? 0;
  }

  get headers(): IncomingHttpHeaders {
    return this.#response.headers;
  }

  async next(): Promise<WireEvent | undefined> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined || this.#ended) return event;
      await this.#more();
    }
  }

  async until(name: string): Promise<WireEvent> {
    for (;;) {
      const event = await this.next();
      if (event === undefined) throw new Error(`the stream ended without ${name}; received: ${this.#raw}`);
      if (event.event === name) return event;
    }
  }

  async rest(): Promise<WireEvent[]> {
    const events: WireEvent[] = [];
    for (let event = await this.next(); event !== undefined; event = await this.next()) events.push(event);
    return events;
  }

  async problem(): Promise<Record<string, unknown>> {
    while (!this.#ended) await this.#more();
    return JSON.parse(this.#raw) as Record<string, unknown>;
  }

  raw(): string {
    return this.#raw;
  }

  disconnect(): void {
    this.#request.destroy();
  }

  pause(): void {
    this.#response.pause();
  }

  resume(): void {
    this.#response.resume();
  }

  #take(chunk: string): void {
    this.#raw += chunk;
    const frames = (this.#buffered + chunk).split("\n\n");
    this.#buffered = frames.pop() ?? "";
    for (const frame of frames) {
      const event = parseFrame(frame);
      if (event !== undefined) this.#events.push(event);
    }
    this.#wake();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Sends a request and resolves when the headers of the answer are in. */
export const openStream = (
  url: string,
  options: { readonly method?: string; readonly headers?: Record<string, string>; readonly body?: unknown },
): Promise<OpenedStream> =>
  new Promise((resolve, reject) => {
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const clientRequest = request(url, {
      method: options.method ?? "POST",
      agent: false,
      headers: {
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...options.headers,
      },
    });
    clientRequest.on("response", (response) => resolve(new Reader(clientRequest, response)));
    clientRequest.on("error", reject);
    clientRequest.end(body);
  });

/** The text of all text deltas, joined. */
export const textOf = (events: readonly WireEvent[]): string =>
  events
    .filter((event) => event.event === "delta" && event.data["type"] === "text")
    .map((event) => String(event.data["content"]))
    .join("");
