import { z } from "zod";
import { Secret } from "./secret.ts";

// Node timers hold at most 2^31 − 1 ms and fire at once beyond it, so "≥ n" durations end there.
const MAX_TIMER_MS = 2_147_483_647;
const MAX_TIMER_SECS = Math.floor(MAX_TIMER_MS / 1000);

/** An integer key with an inclusive range; a range open above ends at 2^53 − 1. */
export const int = (fallback: number, min: number, max: number = Number.MAX_SAFE_INTEGER) =>
  z.int().min(min).max(max).default(fallback);

/** A duration in seconds, at most what a timer can hold. */
export const secs = (fallback: number, min: number, max: number = MAX_TIMER_SECS) => int(fallback, min, max);

/** A duration in milliseconds, at most what a timer can hold. */
export const millis = (fallback: number, min: number, max: number = MAX_TIMER_MS) => int(fallback, min, max);

/** A yes/no key. */
export const flag = (fallback: boolean) => z.boolean().default(fallback);

// JSON Schema's word for what is never shown again; the key reference marks secrets by it.
const SECRET = { writeOnly: true };

/** A secret text of at least `minLength` characters, wrapped as soon as it is read. */
export const secret = (minLength = 1) =>
  z
    .string()
    .min(minLength)
    .meta(SECRET)
    .transform((text) => new Secret(text));

/** A secret of at least `minLength` characters that a client can send as a bearer token. */
export const bearerSecret = (minLength = 1) =>
  z
    .string()
    .min(minLength)
    .regex(/^[\x21-\x7e]*$/, "must be visible ASCII without spaces: no header could carry it otherwise")
    .meta(SECRET)
    .transform((text) => new Secret(text));

/** A map with keys of a third party's own, of which any may be a secret; empty by default. */
export const opaqueOptions = () =>
  z
    .record(z.string(), z.unknown())
    .meta(SECRET)
    .default({})
    .transform((options) => new Secret(options));

/** A connection URL of PostgreSQL; a secret because it may hold the password. */
export const databaseUrl = () =>
  z
    .string()
    .regex(/^postgres(ql)?:\/\/./, "must start with postgres:// or postgresql://")
    .meta(SECRET)
    .transform((text) => new Secret(text));

/** A UUID of any version, lower-cased. */
export const uuid = () => z.guid().toLowerCase();

/** Text with at least one character that is not white space. */
export const nonBlank = () => z.string().regex(/\S/, "must not be blank");

/** An `http:` or `https:` URL without user and password, which would escape the redaction. */
export const httpUrl = () =>
  z.string().refine((text) => {
    if (!URL.canParse(text)) return false;
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) && url.username === "" && url.password === "";
  }, "must be an http or https URL without credentials");

/** A host and a port, as in `127.0.0.1:8087` or `[::1]:8087`. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Splits `host:port`; null when the text is not one. Port 0 asks the system for a free port. */
export function parseHostPort(text: string): HostPort | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  if (!match) return null;
  const port = Number(match[3]);
  return port > 65_535 ? null : { host: match[1] ?? match[2] ?? "", port };
}

/** Whether only this machine can reach the host (ops.md §2.2, `auth.disabled`). */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);

/** A listener address. */
export const hostPort = () =>
  z.string().refine((text) => parseHostPort(text) !== null, "must be host:port, for example 127.0.0.1:8087");
