import type { Message, Verdict } from "./message.ts";
import { storableError } from "./settle.ts";
import { UnknownEventError } from "./wire.ts";

// Time in which a rolling upgrade is over, and how long an unknown event rests meanwhile.
const graceMs = 600_000;
const againMs = 10_000;

/**
 * The verdict on a payload that `readPayload` refused (outbox.md §13): what is unknown here is left to a
 * newer program for the first ten minutes, without counting as an attempt; the rest is rejected.
 */
export const unreadableVerdict = (error: unknown, message: Message): Verdict => {
  const text = storableError(error instanceof Error ? error.message : String(error));
  if (!(error instanceof UnknownEventError)) {
    return { kind: "reject", reason: `deserialization failed: ${text}` };
  }
  return message.ageMs < graceMs
    ? { kind: "retry", error: text, afterMs: againMs, counted: false }
    : { kind: "reject", reason: text };
};
