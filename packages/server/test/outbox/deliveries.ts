import type { Delivery } from "../../src/outbox/sink.ts";

export const tenantId = "11111111-1111-4111-8111-111111111111";

/** A delivery that carries a number, with text that JSON escapes and UTF-8 makes longer. */
export const delivery = (number: number, change: Partial<Delivery> = {}): Delivery => ({
  queue: "usage",
  idempotencyKey: `key-${number}`,
  messageId: `018f0000-0000-4000-8000-${String(number).padStart(12, "0")}`,
  tenantId,
  payload: JSON.stringify({ number, text: 'ünï\n"code"' }),
  trace: null,
  ...change,
});

export const never = new AbortController().signal;
