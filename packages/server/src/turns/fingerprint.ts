import { createHash } from "node:crypto";

/** What makes two sends the same send (turns.md §6). Ids in any case and order, repeats allowed. */
export interface FingerprintInput {
  readonly content: string;
  readonly attachmentIds: readonly string[];
  readonly webSearch: boolean;
}

/**
 * The UTF-8 JSON `{"attachment_ids":[…],"content":"…","web_search":bool}` without white space:
 * ids lower-case, sorted, without repeats; content as received.
 */
export const canonicalRequest = (input: FingerprintInput): string =>
  JSON.stringify({
    attachment_ids: [...new Set(input.attachmentIds.map((id) => id.toLowerCase()))].sort(),
    content: input.content,
    web_search: input.webSearch,
  });

/** SHA-256 of the canonical request, 32 bytes: detects a reused `request_id`. Never on the wire. */
export const requestFingerprint = (input: FingerprintInput): Buffer =>
  createHash("sha256").update(canonicalRequest(input), "utf8").digest();
