import { createHmac } from "node:crypto";

/** The header that proves where an event comes from and that nobody has changed it. */
export const signatureHeader = "mini-chat-signature";

/**
 * `t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">`. The time is signed with the body, so that a
 * receiver can refuse what was recorded and is sent again later; each attempt has its own.
 */
export const signatureOf = (secret: string, body: string, unixSecs: number): string =>
  `t=${unixSecs},v1=${createHmac("sha256", secret).update(`${unixSecs}.${body}`).digest("hex")}`;
