import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Actor } from "../auth/actor.ts";
import { uuidV4 } from "../lib/id.ts";

/** What is known about one HTTP exchange from its first line on (api.md §1.3). */
export interface Exchange {
  /** `x-request-id`: taken over when well-formed, else generated. Names the exchange, not a turn. */
  readonly requestId: string;
  /** 32 hex digits; the handle in problems and logs. */
  readonly traceId: string;
  /** 16 hex digits: this process's part of the trace. */
  readonly spanId: string;
  /** The W3C header for calls this request causes. */
  readonly traceparent: string;
  /** `performance.now()` when the request was seen. */
  readonly startedAt: number;
  /** Set once the caller is authenticated. */
  actor?: Actor;
  /** Gives back the in-flight slot; streams do so when their headers are sent (ops.md §2.2). */
  release?: () => void;
}

const requestIdPattern = /^[A-Za-z0-9._-]{1,64}$/;
const traceparentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** The trace id and flags of a `traceparent` header; null when it is absent or malformed (ops.md §7). */
export const parseTraceparent = (
  header: string | undefined,
): { readonly traceId: string; readonly flags: string } | null => {
  const match = traceparentPattern.exec(header ?? "");
  if (match === null) return null;
  const [, version = "", traceId = "", parentId = "", flags = "", rest] = match;
  // Version 00 has exactly four fields; ff is forbidden; all-zero ids are invalid (W3C Trace Context §3.2).
  if (version === "ff" || (version === "00" && rest !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(parentId)) return null;
  return { traceId, flags };
};

const exchanges = new WeakMap<IncomingMessage, Exchange>();

/** The exchange of a request, made on first sight. */
export const exchangeOf = (raw: IncomingMessage): Exchange => {
  const known = exchanges.get(raw);
  if (known !== undefined) return known;
  const sentId = raw.headers["x-request-id"];
  const parent = raw.headers.traceparent;
  const trace = parseTraceparent(typeof parent === "string" ? parent : undefined);
  const traceId = trace?.traceId ?? randomBytes(16).toString("hex");
  const spanId = randomBytes(8).toString("hex");
  const exchange: Exchange = {
    requestId: typeof sentId === "string" && requestIdPattern.test(sentId) ? sentId : uuidV4(),
    traceId,
    spanId,
    traceparent: `00-${traceId}-${spanId}-${trace?.flags ?? "00"}`,
    startedAt: performance.now(),
  };
  exchanges.set(raw, exchange);
  return exchange;
};
